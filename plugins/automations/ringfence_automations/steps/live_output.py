"""What the scripts of steps write, kept for whoever follows a run: while they run, or when they have ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import structlog
from ringfence.redaction import describe
from sqlalchemy.exc import SQLAlchemyError

from ringfence_automations.service import JsonObject

COMPANY_SECONDS = 0.5
"""How long what a script writes waits for more of it before it is written down."""
MAX_PIECE = 16 * 1024
"""The longest piece, in characters."""

_log = structlog.get_logger("ringfence.automations")
WriteOutput = Callable[[UUID, str, int, Sequence[tuple[str, str]]], Awaitable[None]]


class LiveOutput:
    """What one attempt writes while it runs, written down in short transactions of its own."""

    def __init__(self, run: UUID, path: str, attempt: int, write: WriteOutput) -> None:
        self._attempt = (run, path, attempt)
        self._write = write
        self._pieces: list[tuple[str, str]] = []
        self._something = asyncio.Event()
        self._closed = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    def hear(self, stream: str, text: str) -> None:
        """The script has written something, in which there is no secret."""
        self._pieces.extend(pieces(stream, text))
        self._something.set()
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_until_closed(), name="output of a step")

    async def close(self) -> None:
        """Write what is left."""
        if self._writing is not None:
            # What is being written at this moment is not broken off: it would be lost.
            self._closed.set()
            self._something.set()
            await self._writing

    async def _write_until_closed(self) -> None:
        while True:
            await self._something.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), COMPANY_SECONDS)
            self._something.clear()
            await self._flush()
            if self._closed.is_set() and not self._pieces:
                return

    async def _flush(self) -> None:
        some, self._pieces = self._pieces, []
        await keep(self._write, *self._attempt, some)


async def keep(
    write: WriteOutput, run: UUID, path: str, attempt: int, some: Sequence[tuple[str, str]]
) -> None:
    """Write pieces down; if that fails, they are lost: it is for those who watch, and the artifact has it all."""
    if some:
        try:
            await write(run, path, attempt, some)
        except (OSError, SQLAlchemyError) as error:
            _log.warning(
                "what a step has written cannot be kept", run=str(run), path=path, error=describe(error)
            )


def pieces(stream: str, text: str, *, name: str = "") -> list[tuple[str, str]]:
    """A text in pieces; with a name, each line begins with that."""
    if name:
        text = "".join(f"{name} | {line}" for line in text.splitlines(keepends=True))
        text += "" if text.endswith("\n") else "\n"
    return [(stream, text[start : start + MAX_PIECE]) for start in range(0, len(text), MAX_PIECE)]


def pieces_of(artifact: JsonObject, *, name: str = "") -> list[tuple[str, str]]:
    """What a script has written, of its artifact."""
    outputs = [(stream, artifact.get(stream)) for stream in ("stdout", "stderr")]
    return [piece for stream, text in outputs if text for piece in pieces(stream, text, name=name)]
