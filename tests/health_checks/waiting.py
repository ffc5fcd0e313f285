"""Waiting for a thing to be so, with a deadline."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

PATIENCE_SECONDS = 20.0


async def eventually(
    holds: Callable[[], object | Awaitable[object]], *, seconds: float = PATIENCE_SECONDS
) -> None:
    """Return once `holds` answers something true. Raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while True:
            answer = holds()
            if await answer if inspect.isawaitable(answer) else answer:
                return
            await asyncio.sleep(0.01)
