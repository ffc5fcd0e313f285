"""What runs on this machine, and waiting for a condition."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable


def marked_processes(mark: str) -> list[int]:
    """The processes that have `mark` in their arguments, other than this one."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read()
        except OSError:
            continue
        if mark.encode() in words and pid != os.getpid():
            found.append(pid)
    return found


async def until(condition: Callable[[], object], timeout: float = 10) -> None:
    """Wait until `condition` holds; fail when it does not in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)
