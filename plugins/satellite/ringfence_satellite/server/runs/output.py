"""What runs write while they run, as far as their satellites tell it: written down in batches, within bounds.

It is for people who watch. What cannot be written down at once is dropped, for the result has all of it; so a database
that is slow, or a satellite that tells too much, costs nobody anything but that.
"""

from __future__ import annotations

import asyncio
import json
from uuid import UUID

import structlog
from ringfence import PluginContext
from ringfence.redaction import describe
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_satellite.protocol import MAX_OUTPUT_CHARACTERS, RunOutput
from ringfence_satellite.server.connections.connection import Connection
from ringfence_satellite.server.runs.ids import id_of
from ringfence_satellite.server.runs.watchers import Watchers

COMPANY_SECONDS = 0.1
"""How long a piece waits for others to be written with."""
MAX_WAITING = 1024
"""How many pieces wait on one instance, of all runs together."""

# Of a run that has ended nothing is taken: its row is locked until that is clear.
_COUNT = text("""
    UPDATE satellite_runs SET output_bytes = output_bytes + :bytes
     WHERE id = :run AND satellite_id = :satellite AND state <> 'ended' AND output_bytes < :most RETURNING id
""")
_WRITE = text("""
    INSERT INTO satellite_run_output (run_id, sequence, stream, text)
    SELECT :run, sequence, stream, text
      FROM jsonb_to_recordset(CAST(:pieces AS jsonb)) AS piece(sequence bigint, stream text, text text)
    ON CONFLICT DO NOTHING
""")
_log = structlog.get_logger("ringfence.satellite.runs")


class Outputs:
    """Takes the pieces that satellites of this instance tell."""

    def __init__(self, context: PluginContext, watchers: Watchers) -> None:
        self._context = context
        self._watchers = watchers
        self._waiting: dict[tuple[UUID, UUID], list[RunOutput]] = {}
        self._count = 0
        self._wanted = asyncio.Event()

    def heard(self, connection: Connection, frame: RunOutput) -> bool:
        """A satellite tells a piece. False when this connection has no such run."""
        if frame.run_id not in connection.runs or (run := id_of(frame.run_id)) is None:
            return False
        if self._count < MAX_WAITING:
            self._count += 1
            self._waiting.setdefault((run, connection.satellite), []).append(frame)
            self._wanted.set()
        return True

    async def write_until_cancelled(self) -> None:
        """Write what comes, for ever."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(COMPANY_SECONDS)
            self._wanted.clear()
            waiting, self._waiting, self._count = self._waiting, {}, 0
            try:
                async with self._context.sessions.begin() as session:
                    for (run, satellite), pieces in sorted(waiting.items()):
                        await _write(session, run, satellite, pieces)
            except (SQLAlchemyError, OSError) as error:
                _log.warning("cannot store the live output of runs; it is dropped", error=describe(error))
            for run, _ in waiting:
                self._watchers.changed(run)


async def _write(session: AsyncSession, run: UUID, satellite: UUID, pieces: list[RunOutput]) -> None:
    taken = _within_bounds(pieces)
    size = sum(len(piece.text.encode()) for piece in taken)
    counted = {"run": run, "satellite": satellite, "bytes": size, "most": MAX_OUTPUT_CHARACTERS}
    if (await session.execute(_COUNT, counted)).scalar_one_or_none() is not None:
        told = [piece.model_dump(mode="json", include={"sequence", "stream", "text"}) for piece in taken]
        await session.execute(_WRITE, {"run": run, "pieces": json.dumps(told)})


def _within_bounds(pieces: list[RunOutput]) -> list[RunOutput]:
    """Those with which the bound is reached: what comes at once may be many times as much."""
    taken, size = 0, 0
    while taken < len(pieces) and size < MAX_OUTPUT_CHARACTERS:
        size += len(pieces[taken].text.encode())
        taken += 1
    return pieces[:taken]
