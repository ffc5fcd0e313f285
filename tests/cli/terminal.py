"""A command at a terminal that is so many cells wide."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping

from tests.cli.instances import RINGFENCE
from tests.waiting import PATIENCE_SECONDS
from tests.warm_process import take_terminal

LINES = 50


def at_a_terminal(width: int, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
    """What the command prints where standard output and standard error are one terminal, escape sequences included."""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, width, 0, 0))
    inherited = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "NO_COLOR"}}
    process = subprocess.Popen(
        [*RINGFENCE, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=terminal,
        env={**inherited, "TERM": "xterm-256color", **(environ or {})},
    )
    os.close(terminal)
    printed = b""
    with open(reader, "rb", buffering=0) as output:
        try:
            while chunk := output.read(65536):
                printed += chunk
        except OSError:  # EIO: nobody has the terminal open any more (pty(7))
            pass
    process.wait(timeout=60)
    return printed.decode().replace("\r\n", "\n")


def answering(typed: bytes | Iterator[bytes], *arguments: str, asked: bytes = b"[y/N]") -> tuple[int, str]:
    """How the command ends, and what its terminal shows, when that, or the next of these, is typed whenever it asks."""
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [*RINGFENCE, *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(terminal)
    shown, answered = b"", 0
    deadline = time.monotonic() + PATIENCE_SECONDS
    with open(screen, "r+b", buffering=0) as keyboard:
        try:
            while chunk := _read(screen, deadline):
                shown += chunk
                if shown.count(asked) > answered:
                    answered += 1
                    keyboard.write(typed if isinstance(typed, bytes) else next(typed))
        except OSError:  # EIO: nobody has the terminal open any more (pty(7))
            pass
    return process.wait(timeout=60), shown.decode().replace("\r\n", "\n")


def _read(terminal: int, deadline: float) -> bytes:
    ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
    assert ready, f"the command said nothing more within {PATIENCE_SECONDS:g} s"
    return os.read(terminal, 65536)
