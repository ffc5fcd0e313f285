"""Runs that were refused, or ended for what no script does by itself: where that begins, and where it is over.

Threat: a check is written by somebody who tries to get out of the sandbox, and nobody sees that it was ended for it.
Mechanism: what the report of a run says of its end. Not covered: what is refused without an end (a file that is not
there, a system call that answers with an error), for no report says it; and a script that ends itself by the same
signal, which looks like the other.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_health_checks.hooks import HealthCheckStopped, Stop
from ringfence_health_checks.silences.silenced import SILENCED
from ringfence_health_checks.states.settled_states import Row

_NOTE = text(f"""
    UPDATE health_checks_latest AS latest SET stopped = :stopped FROM health_checks_checks AS checks
     WHERE latest.check_id = :check_id AND latest.ran_on = :ran_on AND checks.id = latest.check_id
    RETURNING checks.name, {SILENCED} AS silenced
""")  # noqa: S608


def stop_of(detail: Mapping[str, Any]) -> Stop | None:
    """What has stopped a run, by what is kept of it."""
    if detail.get("stopped") == Stop.REFUSED:
        return Stop.REFUSED
    return Stop.FORBIDDEN_CALL if detail.get("exitCode") == -signal.SIGSYS else None


async def noted(
    session: AsyncSession, row: Row, was: str | None, stop: Stop | None, message: str
) -> HealthCheckStopped | None:
    """Note what has stopped the newest run in a place; what is to be told of it, if that is news."""
    if was == stop:
        return None
    values = {"stopped": stop, "check_id": row.check_id, "ran_on": row.ran_on}
    check = (await session.execute(_NOTE, values)).one()
    return HealthCheckStopped(
        check_id=row.check_id,
        check_name=check.name,
        place=row.ran_on,
        place_name=row.place_name,
        stopped=stop,
        message=message,
        silenced=check.silenced,
    )
