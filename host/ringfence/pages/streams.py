"""Streams of `Data`: what is sent for as long as somebody looks, and no longer than they may.

Threat: a stream goes on after its session or its right has ended, or holds up an instance that stops; or somebody
holds many of them. Mechanism: whatever a plugin answers as a stream is passed on piece by piece; the session and the
rule are looked up anew before a piece, unless that was done within `FRESH_SECONDS`, and every `LOOK_SECONDS` while
nothing comes; the end of the instance ends it at once, wherever it waits; a session has at most `MOST_PER_SESSION`
streams and an instance `MOST`. Not covered: a right that was narrowed, which the plugin looks up by `View.rights`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from fastapi.responses import StreamingResponse

from ringfence.http.problems import Problem
from ringfence.plugins.draining import Drain

MOST_PER_SESSION = 8
MOST = 500
LOOK_SECONDS = 5.0
FRESH_SECONDS = 1.0

Allowed = Callable[[], Awaitable[bool]]
_Piece = TypeVar("_Piece")


class Streams:
    """The streams of one instance."""

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        self._open: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """How many there are."""
        return self._open.total()

    def hold(self, response: StreamingResponse, session: str, allowed: Allowed) -> None:
        """Have a stream end with what `allowed` says, and with the instance. Raises `Problem` if there is no room."""
        if self._open[session] >= MOST_PER_SESSION or self._open.total() >= MOST:
            raise Problem(429, detail="too many streams are open: close some", headers={"Retry-After": "10"})
        response.body_iterator = self._counted(aiter(response.body_iterator), session, allowed)

    async def _counted(
        self, pieces: AsyncIterator[_Piece], session: str, allowed: Allowed
    ) -> AsyncIterator[_Piece]:
        self._open[session] += 1
        try:
            async for piece in self._while_allowed(pieces, allowed):
                yield piece
        finally:
            self._open[session] -= 1
            self._open += Counter()

    async def _while_allowed(self, pieces: AsyncIterator[_Piece], allowed: Allowed) -> AsyncIterator[_Piece]:
        clock = asyncio.get_running_loop().time
        looked = float("-inf")
        coming = asyncio.ensure_future(anext(pieces, None))
        try:
            while not self._drain.began:
                if clock() - looked >= FRESH_SECONDS:
                    if not await allowed():
                        return
                    looked = clock()
                if not coming.done():
                    with suppress(TimeoutError):
                        async with self._drain.waiting(LOOK_SECONDS):
                            await asyncio.wait([coming])
                    continue
                if (piece := coming.result()) is None:
                    return
                yield piece
                coming = asyncio.ensure_future(anext(pieces, None))
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()
