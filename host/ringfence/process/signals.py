"""Stopping a long-running command: the first signal cancels it, and its cleaning up is left in peace.

A hangup means that the terminal was closed, which stops what was started there. To a service that has no terminal it
says to read anew what it keeps open (daemon(7)); nothing here is kept open, so it goes on.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a service manager, and a terminal that was closed."""


def heeded(*, service: bool = False) -> tuple[signal.Signals, ...]:
    """Those of `STOPPING` that stop us: a hangup not under `nohup`, and a `service` only where it has a terminal."""
    at_terminal = any(os.isatty(descriptor) for descriptor in (0, 2))
    hangup_stops = not _ignores_hangups() and (at_terminal or not service)
    return tuple(one for one in STOPPING if one is not signal.SIGHUP or hangup_stops)


def _ignores_hangups() -> bool:
    return signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def _go_on() -> None:
    import structlog

    structlog.get_logger("ringfence.signals").info("SIGHUP is ignored: there is no file to open again")


async def until_stopped(
    work: Coroutine[Any, Any, None], *, service: bool = False, gently: Callable[[], bool] = lambda: False
) -> bool:
    """Run `work` until it ends or a signal cancels it; whether it was a signal. Raises what `work` raises.

    The first SIGTERM, which is a service manager's, asks `gently` whether `work` ends by itself then, and is not waited
    for until then; the next signal cancels it. Further signals while it cleans up change nothing: an impatient second
    Ctrl-C must leave no orphans.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    signalled = asked = False

    def stop(number: signal.Signals) -> None:
        nonlocal signalled, asked
        if number is signal.SIGTERM and not asked:
            asked = True
            if gently():
                return
        if not signalled:
            signalled = True
            task.cancel()

    numbers = heeded(service=service)
    for number in numbers:
        loop.add_signal_handler(number, stop, number)
    goes_on = signal.SIGHUP not in numbers and not _ignores_hangups()
    if goes_on:
        loop.add_signal_handler(signal.SIGHUP, _go_on)
    try:
        await task
    except asyncio.CancelledError:
        if not signalled:
            raise
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
        if goes_on:
            loop.remove_signal_handler(signal.SIGHUP)
    return signalled


@contextlib.contextmanager
def as_interrupts() -> Iterator[None]:
    """Within this, SIGTERM and a closed terminal are a Ctrl-C; after the first of them, cleaning up is left in peace.

    For commands that are no services and must undo what they have begun. Only for the main thread.
    """
    interrupted = False

    def interrupt(number: int, _: object) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
