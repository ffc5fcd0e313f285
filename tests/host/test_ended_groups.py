"""Programs that are ended with what they have started, though nobody has read what they print."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from ringfence.process.groups import end_group

# More than a pipe holds (64 KiB, pipe(7)) beside what asyncio keeps before it stops to read (twice its 64 KiB):
# once all of it is written, asyncio reads no more, and has not seen the pipe's end.
_MUCH = 3 * 64 * 1024
_PRINTS = f"import sys; print('x' * {_MUCH}, flush=True); print('all', file=sys.stderr, flush=True)"


async def started(program: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-c", program),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


async def test_what_has_printed_more_than_is_read_is_not_waited_for_without_end() -> None:
    process = await started(_PRINTS)
    assert process.stderr is not None
    assert await process.stderr.readline() == b"all\n"
    async with asyncio.timeout(60):
        await end_group(process)
    assert process.returncode is not None


async def test_what_it_has_started_ends_with_it() -> None:
    process = await started(
        "import os, sys, time\nif os.fork():\n  os.wait()\nelse:\n  print(os.getpid(), flush=True)\n  time.sleep(3600)"
    )
    assert process.stdout is not None
    child = os.pidfd_open(int(await process.stdout.readline()))
    async with asyncio.timeout(60):
        await end_group(process)
    assert process.returncode == -signal.SIGKILL
    # The kernel shows a process that has ended as readable (pidfd_open(2)).
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(child, ended.set)
    async with asyncio.timeout(60):
        await ended.wait()
    loop.remove_reader(child)
    os.close(child)
