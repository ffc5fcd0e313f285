"""What the steps of a run have written: kept in pieces, in their order, and no more of a run than is allowed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

MAX_RUN_BYTES = 4 * 1024 * 1024
"""How much of what one run has written is kept."""
MAX_PIECE_BYTES = 64 * 1024
CUT_OFF = "… the rest is not kept: this run has written more than is kept of one\n"

_GREW = text("""
    UPDATE automations_runs SET output_bytes = output_bytes + :bytes WHERE id = :run RETURNING output_bytes
""")
_ADD = text("""
    INSERT INTO automations_output (run_id, path, attempt, stream, text) VALUES (:run, :path, :attempt, :stream, :text)
""")
_READ = text("""
    SELECT number, path, attempt, stream, text, written_at FROM automations_output
     WHERE run_id = :run AND number > :after ORDER BY number LIMIT :limit
""")
_NEWEST = text("""
    SELECT number, path, attempt, stream, text, written_at FROM automations_output
     WHERE run_id = :run AND (CAST(:path AS text) IS NULL OR (path = :path AND attempt = :attempt))
     ORDER BY number DESC LIMIT :limit
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Something that a step has written."""

    number: int
    path: str
    attempt: int
    stream: str
    text: str
    written_at: dt.datetime

    def to_wire(self) -> dict[str, Any]:
        """The piece as JSON."""
        return {
            "number": self.number,
            "path": self.path,
            "attempt": self.attempt,
            "stream": self.stream,
            "text": self.text,
            "writtenAt": self.written_at.isoformat(),
        }


async def add(session: AsyncSession, run: UUID, path: str, attempt: int, *, stream: str, text: str) -> None:
    """Keep what an attempt has written, which holds no secret any more, unless the run has written too much already.

    The run's row is locked by it until the transaction ends: so two pieces have the order in which they can be seen.
    """
    piece = text.encode()[:MAX_PIECE_BYTES].decode(errors="ignore").replace("\0", "\N{REPLACEMENT CHARACTER}")
    size = len(piece.encode())
    total = (await session.execute(_GREW, {"run": run, "bytes": size})).scalar_one_or_none()
    if total is None or total - size > MAX_RUN_BYTES:
        return
    values = {"run": run, "path": path, "attempt": attempt, "stream": stream}
    await session.execute(_ADD, {**values, "text": CUT_OFF if total > MAX_RUN_BYTES else piece})


async def add_all(
    session: AsyncSession, run: UUID, path: str, attempt: int, pieces: Iterable[tuple[str, str]]
) -> None:
    """Keep several pieces, each with its stream, in their order."""
    for stream, piece in pieces:
        await add(session, run, path, attempt, stream=stream, text=piece)


async def read(session: AsyncSession, run: UUID, *, after: int, limit: int) -> list[Piece]:
    """What was written after the piece of that number."""
    rows = await session.execute(_READ, {"run": run, "after": after, "limit": limit})
    return [Piece(**row._asdict()) for row in rows]


async def newest(
    session: AsyncSession, run: UUID, *, limit: int, step: tuple[str, int] | None = None
) -> list[Piece]:
    """The last pieces, in their order; of one attempt at a step alone, if its path and number are given."""
    path, attempt = (None, None) if step is None else step
    rows = await session.execute(_NEWEST, {"run": run, "path": path, "attempt": attempt, "limit": limit})
    return [Piece(**row._asdict()) for row in reversed(rows.all())]
