"""A long-running command stops on the first signal, and cleans up undisturbed by the next."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from ringfence.cli.signals import until_stopped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_cancels_the_work(number: signal.Signals) -> None:
    events: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0)
            events.append("cleaned up")

    assert await until_stopped(work()) is True
    assert events == ["cleaned up"]


async def test_work_that_ends_by_itself_was_not_stopped() -> None:
    assert await until_stopped(asyncio.sleep(0)) is False


async def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        await until_stopped(work())
