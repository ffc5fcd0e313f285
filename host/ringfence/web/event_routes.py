"""The event log over HTTP: what happened, what failed, and trying that again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StringConstraints, model_validator

from ringfence.access import ACCESS_HOOKS, AccessRule, Principal
from ringfence.bounded import STORABLE
from ringfence.eventlog import (
    HISTORY_HOOKS,
    EventRecord,
    FailedEvent,
    LogSetBackError,
    UnknownFailureError,
    failed_events,
    read_after,
    read_newest,
    request_replay,
)
from ringfence.http.guard import require
from ringfence.http.paging import DEFAULT_LISTED, After, Limit, number_of, page
from ringfence.http.problems import Problem
from ringfence.http.routes import Router
from ringfence.plugins.lifecycle import LoadedPlugin
from ringfence.plugins.runtime import Runtime
from ringfence.storage.set_aside import SetAside, set_aside

READ_EVENTS = AccessRule("host", "event", "read", "See which events there were, without what is in them")
MANAGE_EVENTS = AccessRule("host", "event", "manage", "See the events that failed and why, and replay them")
EVENT_RULES = (READ_EVENTS, MANAGE_EVENTS)

WAIT_SECONDS = 25.0
"""The longest that a request is held until there is an event, well below what clients and proxies put up with."""
BIGGEST = 2**63 - 1
StreamName = Annotated[str, StringConstraints(max_length=500), STORABLE]


class ReplayRequest(BaseModel):
    """Which failed events to try again: some by id, or all."""

    model_config = ConfigDict(extra="forbid")

    ids: list[Annotated[StrictInt, Field(ge=1, le=BIGGEST)]] = Field(default=[], max_length=1000)
    all: StrictBool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> ReplayRequest:
        if bool(self.ids) == self.all:
            raise ValueError('give either "ids" or "all": true')
        return self


def build(runtime: Runtime, plugins: Sequence[LoadedPlugin]) -> Router:
    """The routes, over one instance's database and the hooks that its plugins declare."""
    router = Router()
    rules = payload_rules(plugins)

    @router.get("/events")
    async def list_events(
        principal: Annotated[Principal, Depends(require(READ_EVENTS))],
        after: Annotated[
            int | None, Query(ge=0, le=BIGGEST, description="only events after this position")
        ] = None,
        stream: Annotated[StreamName | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        wait: Annotated[float, Query(ge=0, le=WAIT_SECONDS, description="seconds to wait for an event")] = 0,
    ) -> dict[str, Any]:
        if after is None:
            async with runtime.database.sessions() as session:
                records = await read_newest(session, stream=stream, limit=limit)
        else:
            records = await _events(runtime, after, stream, limit, wait)
        return {"events": [_event(record, principal, rules) for record in records]}

    @router.get("/events/failed")
    async def list_failed(
        _: Annotated[Principal, Depends(require(MANAGE_EVENTS))],
        after: After = None,
        limit: Limit = DEFAULT_LISTED,
    ) -> dict[str, Any]:
        begin = 0 if after is None else number_of(after)
        async with runtime.database.sessions() as session:
            listed = page(
                await failed_events(session, after=begin, limit=limit + 1), limit, lambda one: str(one.id)
            )
            return {
                "failed": [_failed(one) for one in listed.entries],
                "next": listed.next,
                "setAside": [_set_aside(one) for one in await set_aside(session)],
            }

    @router.post("/events/replay", status_code=202)
    async def replay(
        wanted: ReplayRequest, _: Annotated[Principal, Depends(require(MANAGE_EVENTS))]
    ) -> dict[str, Any]:
        try:
            async with runtime.database.sessions.begin() as session:
                return {"replaying": await request_replay(session, None if wanted.all else wanted.ids)}
        except UnknownFailureError as error:
            raise Problem(404, detail=str(error)) from error

    return router


def payload_rules(plugins: Sequence[LoadedPlugin]) -> dict[str, str | None]:
    """The access rule with which the payload of each hook's events is shown; None: to nobody."""
    declared = (hook for one in plugins if one.alive for hook in one.registry.hooks.values())
    return {hook.name: hook.payload_rule for hook in (*declared, *ACCESS_HOOKS, *HISTORY_HOOKS)}


def may_read(principal: Principal, hook: str, rules: Mapping[str, str | None]) -> bool:
    """Whether somebody may see what is in the events of a hook, by `payload_rules`."""
    rule = rules.get(hook)
    return rule is not None and principal.holds(rule)


async def _events(
    runtime: Runtime, after: int, stream: str | None, limit: int, wait: float
) -> list[EventRecord]:
    """The events after a position; if there is none yet, once there is one, or after `wait` seconds.

    Or when this instance drains.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    while True:
        # Noted before the log is read: what comes later moves the tailer on from here.
        seen = runtime.tailer.cursor
        async with runtime.database.sessions() as session:
            records = await read_after(session, after, stream=stream, limit=limit)
        if records or not wait:
            return records
        try:
            async with runtime.drain.waiting(deadline - loop.time()):
                await runtime.tailer.wait_for(seen + 1)
        except (TimeoutError, LogSetBackError):
            # Nothing, also to whoever waits beyond the end of a log that was set back, so that they look where it ends.
            return []


def _event(record: EventRecord, principal: Principal, rules: Mapping[str, str | None]) -> dict[str, Any]:
    readable = may_read(principal, record.hook, rules)
    return {
        "position": record.position,
        "stream": record.stream,
        "version": record.version,
        "hook": record.hook,
        "plugin": record.plugin,
        "actor": record.actor,
        "reason": record.reason,
        "occurredAt": record.occurred_at,
        "instance": str(record.instance),
        "payload": record.payload if readable else None,
        "payloadWithheld": not readable,
    }


def _set_aside(one: SetAside) -> dict[str, Any]:
    return {
        "id": one.id,
        "plugin": one.plugin,
        "origin": one.origin,
        "what": one.what,
        "error": one.error,
        "setAsideAt": one.set_aside_at,
    }


def _failed(one: FailedEvent) -> dict[str, Any]:
    return {
        "id": one.id,
        "plugin": one.plugin,
        "workerGroup": one.worker_group,
        "attempts": one.attempts,
        "error": one.error,
        "failedAt": one.failed_at,
        "replaying": one.replay,
        "position": one.position,
        "hook": one.hook,
        "stream": one.stream,
        "version": one.version,
        "occurredAt": one.occurred_at,
    }
