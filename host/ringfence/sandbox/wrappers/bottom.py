"""An empty directory that every user can reach: the bottom of each read-only overlay, which the kernel wants two of.

What is in it would be in every sandbox, so it is made by this process, under a name that nobody can foresee, and nobody
else may write to it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import stat
import tempfile
import threading
from pathlib import Path

from ringfence.sandbox.wrappers.barriers import barrier

EVERYBODY = 2**32 - 2
"""A uid that nobody has, and owns nothing: what it can reach, every uid can."""


PREFIX = "ringfence-empty-"


class NoPlaceError(OSError):
    """There is no directory here in which one can be made that everybody can reach."""


class Bottom:
    """The directory, made when it is first asked for, and again if it has been taken away (by what cleans `/tmp`)."""

    def __init__(self) -> None:
        self._path: str | None = None
        self._owner = os.getpid()
        self._one_at_a_time = threading.Lock()

    def path(self) -> str:
        """Where it is.

        Raises:
            NoPlaceError: if there is no place for it.
        """
        with self._one_at_a_time:
            if self._path is None or not _is_ours(self._path):
                self._path, self._owner = _made(), os.getpid()
                atexit.register(self.remove)
            return self._path

    def remove(self) -> None:
        """Take it away, if this process made it; sandboxes that were made on it are not affected."""
        if self._path is not None and self._owner == os.getpid():
            with contextlib.suppress(OSError):
                os.rmdir(self._path)
            self._path = None


def _is_ours(path: str) -> bool:
    with contextlib.suppress(OSError):
        found = os.lstat(path)
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return False


def _made() -> str:
    places = dict.fromkeys(("/run", tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"))  # noqa: S108
    for place in places:
        if not os.access(place, os.W_OK) or barrier(str(Path(place, "x")), EVERYBODY, EVERYBODY) is not None:
            continue
        with contextlib.suppress(OSError):
            _remove_left(Path(place))
            path = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=place)
            os.chmod(path, 0o555)  # noqa: S103 - it is empty, and nobody may write to it
            return path
    raise NoPlaceError(f"no directory that everybody can reach can be made in any of {', '.join(places)}")


def _remove_left(place: Path) -> None:
    """Remove what supervisors left there that were killed. One that lives where we do not see it makes another."""
    for left in place.glob(f"{PREFIX}*-*"):
        pid = left.name.removeprefix(PREFIX).partition("-")[0]
        if _is_ours(str(left)) and not Path("/proc", pid).exists():
            with contextlib.suppress(OSError):
                left.rmdir()


BOTTOM = Bottom()
"""The one of this process."""
