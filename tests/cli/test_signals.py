"""A long-running command stops on the first signal, and cleans up undisturbed by the next."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest
from ringfence.process.signals import until_stopped
from structlog.testing import capture_logs


@pytest.fixture
def heeding_hangups(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As from a terminal, even if these tests run under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    monkeypatch.setattr(os, "isatty", lambda descriptor: True)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_cancels_the_work(number: signal.Signals, heeding_hangups: None) -> None:
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


async def test_under_nohup_a_closed_terminal_stops_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        async def work() -> None:
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0.01)

        assert await until_stopped(work()) is False
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_a_service_goes_on_after_a_hangup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda descriptor: False)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:

        async def work() -> None:
            with capture_logs() as logs:
                os.kill(os.getpid(), signal.SIGHUP)
                async with asyncio.timeout(10):
                    while not logs:
                        await asyncio.sleep(0.001)

        assert await until_stopped(work(), service=True) is False
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_work_that_ends_by_itself_was_not_stopped() -> None:
    assert await until_stopped(asyncio.sleep(0)) is False


async def test_what_the_work_raises_is_raised() -> None:
    async def work() -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        await until_stopped(work())


async def test_the_first_sigterm_has_the_work_end_by_itself_if_it_can() -> None:
    asked = asyncio.Event()

    def gently() -> bool:
        asked.set()
        return True

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asked.wait()

    assert await until_stopped(work(), gently=gently) is False


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_does_not_wait_for_that(second: signal.Signals) -> None:
    def gently() -> bool:
        os.kill(os.getpid(), second)
        return True

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    assert await until_stopped(work(), gently=gently) is True


async def test_an_interrupt_is_not_gentle() -> None:
    async def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    assert await until_stopped(work(), gently=lambda: True) is True
