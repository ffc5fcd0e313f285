"""Which failures pass by themselves, and so say nothing of what this host can do.

A quota that others have used up, or a machine that is out of memory for a moment, makes the same attempt fail that
succeeds a second later. A host without user namespaces, or without a program, fails in other words.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
from pathlib import Path

_PASSING = frozenset(
    {
        errno.EAGAIN,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ETOOMANYREFS,
        errno.EDQUOT,
        errno.ETIMEDOUT,
    }
)
"""What the kernel answers where something is used up, or took too long (errno(3))."""

_WORDS = re.compile(
    "|".join(
        [
            *(rf"\b{errno.errorcode[number]}\b" for number in sorted(_PASSING)),
            *(re.escape(os.strerror(number)) for number in sorted(_PASSING)),
            "[Cc]annot fork",  # all that dash says of it
        ]
    )
)
_USED_UP = re.compile(rf"\bENOSPC\b|{re.escape(os.strerror(errno.ENOSPC))}")

_OF_THE_HOST = (signal.SIGSYS, signal.SIGILL)
"""Signals by which a host says that it never will: a system call that a filter forbids, a processor that is too old."""

_NAMESPACE_LIMITS = Path("/proc/sys/user")


class Unavailable(Exception):
    """A primitive that cannot be had here; the message is the reason.

    Attributes:
        passing: whether the reason may be gone at the next attempt.
    """

    def __init__(self, reason: str, *, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


def only_if_lasting(unavailable: Unavailable) -> None:
    """Raise a failure that may pass: nothing second-rate is to be taken, and remembered, for that."""
    if unavailable.passing:
        raise unavailable


def is_passing(failure: BaseException | str) -> bool:
    """Whether a failure, or what a program has said of one (with `LC_ALL=C`), may be over at the next attempt."""
    match failure:
        case str():
            if _USED_UP.search(failure) and _namespaces_are_off():
                return False
            return _WORDS.search(failure) is not None
        case TimeoutError() | subprocess.TimeoutExpired() | MemoryError():
            return True
        case OSError():
            return failure.errno in _PASSING and not (failure.errno == errno.ENOSPC and _namespaces_are_off())
        case RuntimeError():
            return "can't start new thread" in str(failure) or is_passing(str(failure))
        case _:
            return is_passing(str(failure))


def status_is_passing(status: int) -> bool:
    """Whether a program's exit status (negative: the signal that ended it) tells of somebody who killed it."""
    if status < 0:
        return -status not in _OF_THE_HOST
    # As a shell, or the wrapper, tells of its child.
    return status in (128 + signal.SIGKILL, 128 + signal.SIGTERM)


def _namespaces_are_off() -> bool:
    """Whether a kind of namespaces is turned off, of which the kernel says that too many are in use."""
    for limit in _NAMESPACE_LIMITS.glob("max_*_namespaces"):
        try:
            if limit.read_text().strip() == "0":
                return True
        except OSError:
            continue
    return False
