"""Child processes of ours that never outlive us: agents, and the demo's host."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from ringfence.process.errors import CliError

STOP_SECONDS = 20.0
"""How long a child may take to stop when asked, before it is killed."""

_PR_SET_PDEATHSIG = 1


def ringfence_command(*arguments: str) -> list[str]:
    """The command line that runs this installation's `ringfence`, whatever the working directory holds."""
    return [sys.executable, "-P", "-m", "ringfence", *arguments]


def start(
    arguments: Sequence[str],
    *,
    environ: Mapping[str, str] | None = None,
    stderr: IO[bytes] | int | None = None,
) -> subprocess.Popen[bytes]:
    """Start `ringfence` with `arguments` in a session of its own: a terminal's Ctrl-C is ours to pass on.

    The command must take `--die-with PID` (see `die_with`), which is added.
    """
    return subprocess.Popen(
        ringfence_command(*arguments, "--die-with", str(os.getpid())),
        env=None if environ is None else dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes], *, seconds: float = STOP_SECONDS) -> int:
    """Ask a child to stop, insist after `seconds`, and return its status."""
    if process.poll() is None:
        process.terminate()
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def die_with(parent: int) -> None:
    """Have the kernel end this process (SIGTERM) when `parent` is gone, even if that was killed.

    Raises:
        CliError: if it is gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        raise CliError(f"process {parent}, which started this one, has ended")


def tail(path: Path, *, lines: int = 15) -> str:
    """The last lines of a child's log, to show when it failed."""
    with contextlib.suppress(OSError):
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    return ""
