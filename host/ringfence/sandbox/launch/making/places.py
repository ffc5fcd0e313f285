"""Where all places of a user in a directory are: one directory of that user's, so that a run can have it covered.

Threat: a run that is shown the host's files, and has its supervisor's uid, sees the places of runs that start later,
by that supervisor or by another one of the same user: they could not be covered when it started. Mechanism: what is
covered is the one directory that all of them are made in. It is kept by a lock (flock(2)) as long as a process lives
that had it covered, and goes with the last place in it otherwise.
Not covered: a directory that somebody else removes in that time, as what cleans up temporary files does.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import os
import stat
import tempfile
import threading

PREFIX = "ringfence-scratch-"
"""How the names of places begin, and that of the directory which they are in."""

ATTEMPTS = 100
"""How often it is made again if it goes between its making and its use."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_kept: dict[str, int] = {}
_one_at_a_time = threading.Lock()


def make_place(directory: str) -> str:
    """A new directory among all places of this user in `directory`.

    Or in `directory` itself, where somebody else has something of that name. Raises OSError.
    """
    for _ in range(ATTEMPTS):
        try:
            everything = _made(directory)
        except OSError:
            break
        # Else it went meanwhile, with the last place in it.
        with contextlib.suppress(FileNotFoundError):
            return tempfile.mkdtemp(prefix=PREFIX, dir=everything)
    return tempfile.mkdtemp(prefix=PREFIX, dir=directory)


def keep_places(directory: str) -> None:
    """Have there be one, and have it stay until this process ends. Raises OSError."""
    for _ in range(ATTEMPTS):
        everything = _made(directory)
        with _one_at_a_time:
            if not _kept:
                atexit.register(_let_go, os.getpid())
            if everything in _kept and _is(everything, _kept[everything]):
                return
            with contextlib.suppress(FileNotFoundError):
                held = os.open(everything, _DIRECTORY)
                fcntl.flock(held, fcntl.LOCK_SH)
                if _is(everything, held):
                    if everything in _kept:
                        os.close(_kept[everything])
                    _kept[everything] = held
                    return
                os.close(held)


def give_up_places(everything: str) -> None:
    """Remove the directory that places are in, if there is none in it and nobody keeps it."""
    if not os.path.basename(everything).startswith(f"{PREFIX}of-"):
        return
    with contextlib.suppress(OSError):
        held = os.open(everything, _DIRECTORY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rmdir(everything)
        finally:
            os.close(held)


def name_of_places() -> str:
    """What the directory is called in which all places of this user are."""
    return f"{PREFIX}of-{os.geteuid()}"


def _made(directory: str) -> str:
    """The directory, which is made if it is not there. Raises OSError, also if it is not ours alone."""
    path = os.path.join(directory, name_of_places())
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o711)
        os.chmod(path, 0o711)  # noqa: S103 - to be passed through, and no more
    with contextlib.suppress(FileNotFoundError):
        found = os.lstat(path)
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        if not ours or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(errno.EPERM, "not a directory of ours alone", path)
    return path


def _is(path: str, held: int) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.lstat(path), os.fstat(held))
    return False


def _let_go(owner: int) -> None:
    with _one_at_a_time:
        if os.getpid() != owner:
            return
        for everything, held in _kept.items():
            os.close(held)
            give_up_places(everything)
        _kept.clear()
