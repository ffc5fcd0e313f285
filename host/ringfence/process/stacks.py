"""Where each thread of a running host is, written at SIGUSR2 to a file beside its log: functions, and no values."""

from __future__ import annotations

import faulthandler
import os
import signal
from pathlib import Path

from ringfence.process.kept_logs import DIRECTORY

STACKS = "stacks.txt"
_kept: list[int] = []
"""Descriptors that faulthandler writes to for as long as the process lives."""


def told_when_asked(data_dir: Path) -> None:
    """From now on, write them to `logs/stacks.txt` at each SIGUSR2. Raises `OSError`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(data_dir / DIRECTORY / STACKS, flags, 0o600)
    _kept.append(descriptor)
    faulthandler.register(signal.SIGUSR2, file=descriptor, all_threads=True)
