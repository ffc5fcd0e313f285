"""What machines get that want the same at once: it is read once for all of them."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from ringfence.scripts.packages.lock import Lock
from ringfence_script_packages.packages.offered import Offered
from ringfence_script_packages.packages.platforms import Platforms
from ringfence_script_packages.packages.ports import BlobStore
from ringfence_script_packages.packages.sets import Sets

LOCK = Lock()


class Slow:
    """Sets whose locks come when a test lets them, and fail or are not there if it wants that."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.answer: Lock | Exception | None = LOCK

    async def lock(self, hash: str) -> Lock | None:
        self.asked += 1
        await self.may_answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_a_lock_that_hundreds_ask_for_at_once_is_read_once() -> None:
    sets = Slow()
    offered = Offered(cast(Sets, sets), cast(BlobStore, None), cast(Platforms, None), wake=lambda: None)
    asking = [asyncio.create_task(offered.lock(LOCK.hash)) for _ in range(300)]
    await asyncio.sleep(0)
    # One that goes away takes it from nobody.
    asking.pop(0).cancel()
    sets.may_answer.set()
    answers = await asyncio.gather(*asking)
    assert answers[0] is not None
    assert all(one is answers[0] for one in answers)
    assert await offered.lock(LOCK.hash) is answers[0]
    assert sets.asked == 1


async def test_a_lock_that_is_not_there_or_could_not_be_read_is_asked_for_again() -> None:
    sets = Slow()
    sets.may_answer.set()
    offered = Offered(cast(Sets, sets), cast(BlobStore, None), cast(Platforms, None), wake=lambda: None)
    sets.answer = OSError("away")
    with pytest.raises(OSError, match="away"):
        await offered.lock(LOCK.hash)
    sets.answer = None
    assert await offered.lock(LOCK.hash) is None
    sets.answer = LOCK
    assert await offered.lock(LOCK.hash) is not None
    assert sets.asked == 3
