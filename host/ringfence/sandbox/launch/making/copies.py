"""What is in some directories of the host, as a value, read again when something in them was changed.

Threat: a run is shown what is not everybody's, or an authority that the host has ceased to trust. Mechanism: what not
everybody may read or pass is there as an empty file or directory. At most every `LOOK_S`, it is looked whether
something was changed, by what the kernel notes of each file and directory and nobody can set (the change time,
inode(7)). No link is followed but that in the place of a whole directory, however others change what is there
meanwhile. Not covered: a change on a network file system that this machine does not know of yet.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from dataclasses import dataclass

from ringfence.sandbox.faults import is_passing
from ringfence.sandbox.hashing import hashed_once
from ringfence.sandbox.wrappers.barriers import barrier
from ringfence.sandbox.wrappers.bottom import EVERYBODY

LOOK_S = 1.0

MOST_ENTRIES, MOST_BYTES, MOST_LEVELS = 2_000, 4 * 1024 * 1024, 32
"""What is larger is not copied: most systems have a third of that at most."""

Files = tuple[tuple[str, bytes], ...]
"""What each file holds, by its path."""

Mark = tuple[str, int, int, int]
"""A path, and by what one sees that what is there is another: device, number, and when it was changed last."""


@hashed_once
@dataclass(frozen=True)
class Copy:
    """Files, links and directories, each by its path on the host."""

    files: Files = ()
    links: tuple[tuple[str, str], ...] = ()
    directories: tuple[str, ...] = ()


class TooLarge(Exception):
    """There is more than is copied."""


class Copies:
    """The copies that this process has of sets of directories."""

    def __init__(self, look_s: float = LOOK_S) -> None:
        self._look_s = look_s
        self._known: dict[tuple[str, ...], tuple[Copy | None, tuple[Mark, ...]]] = {}
        self._looked: dict[tuple[str, ...], float] = {}
        self._one_at_a_time = threading.Lock()

    def of(self, tops: tuple[str, ...]) -> Copy | None:
        """What is in these directories now; None if that is too much, or not for everybody to come to.

        Raises OSError if that is not known now.
        """
        with self._one_at_a_time:
            now = time.monotonic()
            if tops in self._known and now - self._looked[tops] < self._look_s:
                return self._known[tops][0]
            known = self._known.get(tops)
            if known is None or not all(map(_is_as_before, known[1])):
                known = self._known[tops] = _read(tops)
            self._looked[tops] = now
            return known[0]


def _read(tops: tuple[str, ...]) -> tuple[Copy | None, tuple[Mark, ...]]:
    reading = _Reading()
    try:
        for top in tops:
            reading.top(top)
    except TooLarge:
        return None, tuple(reading.marks)
    except OSError as error:
        if is_passing(error):
            raise
        # Something was taken away meanwhile: the next time, it is seen anew.
        return None, (("", 0, 0, 0),)
    if any(barrier(f"{top}/any", EVERYBODY, EVERYBODY) is not None for top in tops):
        return None, (("", 0, 0, 0),)
    found = Copy(tuple(reading.files), tuple(reading.links), tuple(reading.directories))
    return found, tuple(reading.marks)


class _Reading:
    """What was found so far."""

    def __init__(self) -> None:
        self.files: list[tuple[str, bytes]] = []
        self.links: list[tuple[str, str]] = []
        self.directories: list[str] = []
        self.marks: list[Mark] = []
        self._left = MOST_BYTES

    def top(self, path: str) -> None:
        """Read a directory with all that is in it. Raises TooLarge and OSError."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._directory(descriptor, path, 0)
        finally:
            os.close(descriptor)

    def _directory(self, directory: int, path: str, depth: int) -> None:
        found = os.fstat(directory)
        self._mark(path, found)
        self.directories.append(path)
        if not _is_everybodys(found):
            return
        if depth > MOST_LEVELS:
            raise TooLarge
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            self._entry(directory, name, f"{path}/{name}", depth)

    def _entry(self, parent: int, name: str, path: str, depth: int) -> None:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            # Of these there are many, and another one is a change of the directory.
            self.links.append((path, os.readlink(name, dir_fd=parent)))
        elif not _is_everybodys(found):
            self._mark(path, found)
            if stat.S_ISDIR(found.st_mode):
                self.directories.append(path)
            elif stat.S_ISREG(found.st_mode):
                self.files.append((path, b""))
        elif stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode):
            kind = os.O_DIRECTORY if stat.S_ISDIR(found.st_mode) else os.O_NONBLOCK
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=parent)
            try:
                if stat.S_ISDIR(found.st_mode):
                    self._directory(descriptor, path, depth + 1)
                else:
                    self._file(descriptor, path)
            finally:
                os.close(descriptor)

    def _file(self, descriptor: int, path: str) -> None:
        found = os.fstat(descriptor)
        self._mark(path, found)
        if not stat.S_ISREG(found.st_mode) or not _is_everybodys(found):
            return
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(self._left + 1)
        self._left -= len(content)
        if self._left < 0:
            raise TooLarge
        self.files.append((path, content))

    def _mark(self, path: str, found: os.stat_result) -> None:
        self.marks.append(_mark(path, found))
        if len(self.marks) + len(self.links) > MOST_ENTRIES:
            raise TooLarge


def _is_everybodys(found: os.stat_result) -> bool:
    wanted = stat.S_IROTH | stat.S_IXOTH if stat.S_ISDIR(found.st_mode) else stat.S_IROTH
    return found.st_mode & wanted == wanted


def _mark(path: str, found: os.stat_result) -> Mark:
    return path, found.st_dev, found.st_ino, found.st_ctime_ns


def _is_as_before(mark: Mark) -> bool:
    try:
        return _mark(mark[0], os.stat(mark[0])) == mark
    except OSError:
        return False


COPIES = Copies()
"""The ones of this process."""
