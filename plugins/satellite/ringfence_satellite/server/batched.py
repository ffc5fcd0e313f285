"""Many look-ups that are made close together are answered by one query.

It is begun only after each of them was asked for.

Ten thousand satellites that reconnect at once are some dozens of queries. That an answer is never older
than its question is what makes "registered before it is read" hold although reads are shared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MAX_BATCH = 500


class Batched(Generic[K, V]):
    """Look-ups by key. `load` answers those of the keys that it finds."""

    def __init__(self, load: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._load = load
        self._waiting: list[tuple[K, asyncio.Future[V | None]]] = []
        self._work: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """The value of `key` as it is now, or None. Raises what `load` raises."""
        answer: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, answer))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._answer_all(), name="batched look-ups")
        return await answer

    async def close(self) -> None:
        """Give up on what is still being looked up: whoever waits is cancelled."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        for _, answer in self._waiting:
            answer.cancel()

    async def _answer_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            await self._answer(batch)

    async def _answer(self, batch: Sequence[tuple[K, asyncio.Future[V | None]]]) -> None:
        try:
            found = await self._load(list(dict.fromkeys(key for key, _ in batch)))
        except asyncio.CancelledError:
            for _, answer in batch:
                answer.cancel()
            raise
        except Exception as error:
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(error)
        else:
            for key, answer in batch:
                if not answer.done():
                    answer.set_result(found.get(key))
