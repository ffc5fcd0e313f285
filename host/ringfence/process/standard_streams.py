"""Standard input, output and error of this process, also where whoever started it has closed them.

Threat: a file that is opened next gets the number of one of them, and what is meant for a person is written into it; or
a command fails since there is nothing to read from. Mechanism: what is closed is /dev/null, for this process and for
all that it starts.
"""

from __future__ import annotations

import os
import sys
from typing import IO

from ringfence.process.errors import UsageMistake

_NAMES = ("stdin", "stdout", "stderr")


def open_closed() -> None:
    """Open what is closed."""
    for number, name in enumerate(_NAMES):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def read_at_most(file: IO[bytes], most: int, called: str) -> bytes:
    """What can be read of a file, at most so many bytes: it may have no end. Raises `UsageMistake`."""
    data = file.read(most + 1)
    if len(data) > most:
        raise UsageMistake(f"{called} is larger than {most // 1024} KiB")
    return data
