"""Stopping a long-running command: the first signal cancels it, and its cleaning up is left in peace."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a service manager, and a terminal that was closed."""


def heeded() -> tuple[signal.Signals, ...]:
    """Those of `STOPPING` that are for us: under `nohup` a closed terminal is no reason to stop."""
    return tuple(
        one for one in STOPPING if one is not signal.SIGHUP or signal.getsignal(one) is not signal.SIG_IGN
    )


async def until_stopped(work: Coroutine[Any, Any, None]) -> bool:
    """Run `work` until it ends or a signal cancels it; whether it was a signal. Raises what `work` raises.

    Further signals while it cleans up change nothing: an impatient second Ctrl-C must leave no orphans.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    signalled = False

    def stop() -> None:
        nonlocal signalled
        if not signalled:
            signalled = True
            task.cancel()

    numbers = heeded()
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not signalled:
            raise
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
    return signalled
