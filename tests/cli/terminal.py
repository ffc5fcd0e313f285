"""A command at a terminal that is so many cells wide."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping

from tests.cli.instances import RINGFENCE

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
