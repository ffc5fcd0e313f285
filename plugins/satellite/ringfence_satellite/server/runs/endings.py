"""How a run's end is written down: the row and the event that tells of it, in one transaction."""

from __future__ import annotations

from uuid import UUID

from ringfence import PluginContext
from ringfence.scripts import Stopped
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_satellite.hooks import SatelliteRunFinished, satellite_run_finished, stream_of
from ringfence_satellite.protocol import JsonObject
from ringfence_satellite.server.runs import table
from ringfence_satellite.server.runs.states import End


async def write_end(
    context: PluginContext,
    session: AsyncSession,
    *,
    run: UUID,
    satellite: UUID,
    how: End,
    result: JsonObject | None = None,
) -> None:
    """End a run that is locked, and tell of it when the transaction commits: its outcome, and nothing of its output."""
    await table.end(session, run, how, result)
    fact = SatelliteRunFinished(
        satellite_id=satellite,
        run_id=run,
        outcome=how.outcome.value,
        exit_code=None if result is None else result["exitCode"],
        stopped=None if result is None else _stopped(result.get("stopped")),
    )
    await context.emit_hook(satellite_run_finished, fact, session=session, stream=stream_of(satellite))


def _stopped(told: object) -> str | None:
    """What a satellite says has ended a run, in words that this release knows."""
    return Stopped(told).value if isinstance(told, str) else None
