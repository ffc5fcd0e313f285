"""Memory that belongs to no process: a run that is summed process by process must not be able to make any."""

from __future__ import annotations

import pytest

from tests.primitives import requires
from tests.sandbox.conftest import RunScript

pytestmark = requires("user namespaces")

SYSTEM_V = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
identifier = libc.shmget(0, 1 << 20, 0o1600)
print(identifier, ctypes.get_errno())
"""
MEMFD = """
import os
try:
    os.memfd_create("hidden")
except OSError as error:
    print(-1, error.errno)
"""


@pytest.mark.parametrize("script", [SYSTEM_V, MEMFD], ids=["System V shared memory", "memfd"])
async def test_memory_outside_of_every_process_is_refused(run_script: RunScript, script: str) -> None:
    result = await run_script("python", script)
    assert result.stdout.split() == ["-1", "1"], "EPERM"


async def test_shared_memory_in_the_bounded_tmpfs_still_works(run_script: RunScript) -> None:
    result = await run_script(
        "python",
        "from multiprocessing import shared_memory as s\n"
        "block = s.SharedMemory(create=True, size=4096)\n"
        "block.buf[0] = 7\nprint(block.buf[0])\nblock.unlink()",
    )
    assert result.stdout.strip() == "7", result.stderr
