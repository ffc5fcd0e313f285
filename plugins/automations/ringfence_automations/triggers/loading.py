"""Reading from the database all that waits for something to happen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from ringfence.eventlog import read_stream
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.definitions.automations import Automations, UnreadableAutomationError
from ringfence_automations.definitions.definition import Definition
from ringfence_automations.hooks import AutomationChange, stream_of
from ringfence_automations.triggers.armed import Armed, Listening, all_awaited, arm

PAGE = 50

_UNDER_WAY = text("""
    SELECT DISTINCT automation, revision FROM automations_runs WHERE status IN ('queued', 'running')
""")
_BEHIND = text("""
    SELECT run.depth FROM automations_places AS place JOIN automations_runs AS run ON run.id = place.run_id
     WHERE place.satellite_run = CAST(:run AS uuid)
""")


async def depth_behind(session: AsyncSession, satellite_run: UUID) -> int | None:
    """How deep the run is whose step runs a script on a satellite; None where it is no step's."""
    depth: int | None = (await session.execute(_BEHIND, {"run": satellite_run})).scalar_one_or_none()
    return depth


async def load(session: AsyncSession, automations: Automations) -> Listening:
    """All that waits now."""
    armed: dict[str, Armed] = {}
    off: dict[str, int] = {}
    definitions = []
    for one in await automations.all(session):
        definitions.append(one.definition)
        if one.definition.enabled:
            since = await _since(session, one.name)
            armed[one.name] = arm(one.definition, one.revision, since=since)
        else:
            off[one.name] = one.revision
    definitions += [one async for one in _of_runs_under_way(session, automations)]
    return Listening(armed, off, all_awaited(definitions))


async def _of_runs_under_way(session: AsyncSession, automations: Automations) -> AsyncIterator[Definition]:
    for row in (await session.execute(_UNDER_WAY)).all():
        try:
            found = await automations.at(session, row.automation, row.revision)
        except UnreadableAutomationError:
            continue
        if found is not None:
            yield found.definition


async def _since(session: AsyncSession, name: str) -> int:
    """The position at which an automation that is enabled began to be."""
    since = 0
    before: dict[str, int] = {}
    while True:
        records = await read_stream(session, stream_of(name), limit=PAGE, newest_first=True, **before)
        for record in records:
            if not _is_on(record.payload):
                return since
            since, before = record.position, {"before": record.version}
        if len(records) < PAGE:
            return since


def _is_on(payload: dict[str, Any]) -> bool:
    definition = payload.get("definition") or {}
    return payload.get("change") != AutomationChange.DELETED and definition.get("enabled", True) is True
