"""`/healthz`: the process answers. `/readyz`: it can do its work, or why not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from ringfence.eventlog import last_position
from ringfence.eventlog.tail import NoticedSetBack
from ringfence.http.routes import Router
from ringfence.plugins.lifecycle import LoadedPlugin
from ringfence.plugins.runtime import Runtime
from ringfence.storage.answering import answer_within

ANSWER_SECONDS = 2.0
"""For how long the database may be silent before it counts as out of reach."""


def build(runtime: Runtime, plugins: Sequence[LoadedPlugin]) -> Router:
    """The routes, over one instance's state. None of them needs a token, and none tells a secret."""
    router = Router(include_in_schema=False)

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "instance": str(runtime.instance_id)}

    @router.get("/readyz")
    async def readyz() -> JSONResponse:
        state = await readiness(runtime, plugins)
        return JSONResponse(state, 200 if state["ready"] else 503)

    return router


async def readiness(runtime: Runtime, plugins: Sequence[LoadedPlugin]) -> dict[str, Any]:
    """What `/readyz` answers. `eventsBehind` counts the positions this instance has yet to deliver.

    `missed` names the plugins of which a listener has failed, with the first position at which one did; `slow` those
    that the others go on without, with how many events wait for each. `setBack` tells of the last time that this
    instance found the database to have been set back, if it ever did; it has gone on after `resumedAfter` then.
    `setAside` counts by plugin what this instance could not write, and has set aside since it started.
    `draining`: it is about to stop, and takes nothing new.
    `failedTasks` have ended and do not run now; the instance is not ready then, unless their plugin is optional.
    `restartedTasks` had ended, and were started again.
    """
    tailer = runtime.tailer
    optional = {one.info.id for one in plugins if one.info.optional}
    lacking = [name for name in runtime.tasks.failures if name.partition(":")[0] not in optional]
    try:
        last = await answer_within(ANSWER_SECONDS, _last_position(runtime), name="the database")
        # What can be read may not be writable: full, or a copy of another.
        behind, database = max(0, last - tailer.cursor), runtime.database.trouble or "ok"
    except (SQLAlchemyError, OSError) as error:
        behind, database = None, f"out of reach: {type(error).__name__}"
    return {
        "ready": database == "ok" and tailer.live and not lacking and not runtime.drain.began,
        "draining": runtime.drain.began,
        "database": database,
        "tail": {
            "live": tailer.live,
            "cursor": tailer.cursor,
            "eventsBehind": behind,
            "secondsSinceCaughtUp": tailer.silent_seconds,
            "error": tailer.error,
            "missed": runtime.delivery.missed,
            "slow": runtime.delivery.lanes.behind,
            "setBack": _set_back(tailer.set_back),
        },
        "setAside": runtime.aside.counts,
        "failedTasks": runtime.tasks.failures,
        "restartedTasks": {
            name: {"times": one.times, "at": one.at.isoformat(), "error": one.error}
            for name, one in runtime.tasks.restarts.items()
        },
    }


def _set_back(noticed: NoticedSetBack | None) -> dict[str, Any] | None:
    if noticed is None:
        return None
    return {
        "times": noticed.times,
        "at": noticed.at.isoformat(),
        "readUpTo": noticed.what.read_up_to,
        "resumedAfter": noticed.what.resumed_after,
    }


async def _last_position(runtime: Runtime) -> int:
    async with runtime.database.sessions() as session:
        return await last_position(session)
