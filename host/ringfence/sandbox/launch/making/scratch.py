"""Directories among the host's temporary files, which somebody has to remove: a plain run's scratch, the runs' scripts.

Usually that is the supervisor, when the run is over. One that was killed leaves it to the next that starts, which must
not take a directory for left behind that is in use, nor be led astray by what a script has put into it:

- A place is a directory of the supervisor's own, with a lock in it, and what it is for beside that (a script's `home`).
  The lock is held (flock(2)) by the supervisor and, if it is a plain run's, by the spawner of the run, which ends when
  all processes of the run are dead; the kernel lets go of it when both are gone, and not before. Neither age nor name
  is evidence of anything. (A script that outlives both, since somebody killed both, sees its files go.)
- A directory is ours only if we own it, nobody else may write to it, and its lock says so. A script with another uid
  than ours can make no such directory. (One with our own uid can, and can remove whatever we can.)
- All places of a user in a directory are in one of that user's (`places`).
- Nothing is removed by its path: each directory is opened in the one above without following a link, and what is in it
  is unlinked or moved up from there. Moved, since a script can nest directories deeper than descriptors reach.

What is not covered: a place whose making was cut off before its lock was there stays; there is nothing in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ringfence.sandbox.launch.making.places import PREFIX, give_up_places, make_place, name_of_places

LOCK, HOME = "lock", "home"
STATE = "state"
"""What the state directory of a plain run is called in its home."""

OTHERS = ("/dev/shm", "/var/tmp", "/run")  # noqa: S108
"""Where a place may be besides the temporary files; in the first, nothing of it is ever on a disk."""

_WORDS = b"a scratch directory of ringfence\n"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

MOST_PASSES, LONGEST_REMOVAL_S = 10, 60.0
"""A script that still lives could make new things for ever. What is left is the next start's."""


class Place:
    """A directory of the supervisor's own, from its making until `close`. `lock` is to be held by who serves it."""

    def __init__(self, directory: str | None = None, *, prefix: str = PREFIX) -> None:
        """Make it, in `directory` or among the temporary files. Raises OSError.

        One with another prefix is not a run's, and no run has it covered.
        """
        within = directory or tempfile.gettempdir()
        self.path = make_place(within) if prefix == PREFIX else tempfile.mkdtemp(prefix=prefix, dir=within)
        # It is locked before it has the name by which others look for it.
        early = os.path.join(self.path, f"{LOCK}.new")
        self.lock = os.open(early, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.write(self.lock, _WORDS)
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(early, os.path.join(self.path, LOCK))
        os.chmod(self.path, 0o711)  # noqa: S103 - to be passed through, and no more

    def close(self) -> None:
        """Remove the place with all that is in it. What cannot be removed is left to the next start."""
        with contextlib.suppress(OSError), _opened(os.open(self.path, _DIRECTORY)) as place:
            _remove(place, self.path)
            give_up_places(os.path.dirname(self.path))
        os.close(self.lock)


class Scratch(Place):
    """The place of one run without namespaces. `home` is its script's, to write to."""

    def __init__(self, uid: int, gid: int, *, state: bool = False) -> None:
        """Make the place, and `home` in it for that identity, maybe with a directory for its state. Raises OSError."""
        super().__init__()
        self.home = os.path.join(self.path, HOME)
        self._own(self.home, uid, gid)
        if state:
            self._own(os.path.join(self.home, STATE), uid, gid)

    @staticmethod
    def _own(path: str, uid: int, gid: int) -> None:
        os.mkdir(path, 0o700)
        if os.geteuid() == 0:
            os.chown(path, uid, gid)


def remove_orphans(prefix: str = PREFIX) -> None:
    """Remove the places of supervisors that are gone, together with the processes of their runs."""
    try:
        temporary = tempfile.gettempdir()
    except FileNotFoundError:
        return  # Nobody could have left anything: there is no directory that can be written to.
    for directory in dict.fromkeys((temporary, *OTHERS)):
        # Earlier releases had them in the directory itself.
        ours = Path(directory, name_of_places())
        for path in (*Path(directory).glob(f"{prefix}*"), *ours.glob(f"{prefix}*")):
            # Somebody else's, in use, or removed by another supervisor that starts now.
            with contextlib.suppress(OSError), _place_of_a_dead_one(path) as place:
                _remove(place, path)
        give_up_places(str(ours))


@contextlib.contextmanager
def _place_of_a_dead_one(path: Path) -> Iterator[int]:
    """Open and lock a place that is certainly ours, and whose owner is certainly dead; else raise OSError."""
    with _opened(os.open(path, _DIRECTORY)) as place:
        found = os.fstat(place)
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(f"{path} is not ours")
        with _opened(os.open(LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)) as lock:
            found = os.fstat(lock)
            ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1
            if not ours or os.read(lock, len(_WORDS) + 1) != _WORDS:
                raise PermissionError(f"{path} has no lock of ours")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield place


def _remove(place: int, path: str | Path) -> None:
    """Remove a place. The lock goes last, so that whoever is cut off here leaves what the next one can go on with."""
    deadline = time.monotonic() + LONGEST_REMOVAL_S
    for _ in range(MOST_PASSES):
        names = _contents(place)
        if not names:
            os.unlink(LOCK, dir_fd=place)
            os.rmdir(path)
            return
        while names and time.monotonic() < deadline:
            names += _level(place, names.pop())


def _contents(place: int) -> list[str]:
    return [name for name in os.listdir(place) if name != LOCK]


def _level(place: int, name: str) -> list[str]:
    """Remove `name` from the place; if it is a directory, those in it come into the place instead, and are returned."""
    moved = []
    with contextlib.suppress(OSError):
        if not _is_directory(place, name):
            os.unlink(name, dir_fd=place)
            return []
        with _opened(os.open(name, _DIRECTORY, dir_fd=place)) as directory:
            for inner in os.listdir(directory):
                if _is_directory(directory, inner):
                    number = os.stat(inner, dir_fd=directory, follow_symlinks=False).st_ino
                    os.rename(inner, f"up-{number}", src_dir_fd=directory, dst_dir_fd=place)
                    moved.append(f"up-{number}")
                else:
                    os.unlink(inner, dir_fd=directory)
        os.rmdir(name, dir_fd=place)
    return moved


def _is_directory(parent: int, name: str) -> bool:
    """Whether it is a directory itself, and no link to one; if so, it is made one that we may change."""
    with _opened(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)) as found:
        if not stat.S_ISDIR(os.fstat(found).st_mode):
            return False
        # By the descriptor: a path could have become a link meanwhile.
        os.chmod(f"/proc/self/fd/{found}", 0o700)
        return True


@contextlib.contextmanager
def _opened(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
