"""Ends programs that a task has started, with whatever they have started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

_REST_SECONDS = 10.0
_PIECE = 64 * 1024


async def end_group(process: asyncio.subprocess.Process) -> None:
    """Kill `process`, which leads a group of its own (`start_new_session`), and that group; wait until it has ended.

    asyncio knows a process as ended only when its pipes have ended, too, and does not look at a pipe of which nobody
    reads what came: so what is left in them is read here, and thrown away. A process that has left the group and holds
    a pipe is not waited for longer than some seconds.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_REST_SECONDS):
            for stream in (process.stdout, process.stderr):
                while stream is not None and await stream.read(_PIECE):
                    pass
            await process.wait()
