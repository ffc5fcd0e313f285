"""The directory in which a run finds its script: made with its sandbox, filled at its start, read-only for the run.

Threat: a script that can be changed while it runs, or read by somebody else, or that is left behind. Mechanism: each
sandbox has a directory of its own, mounted read-only inside, into which only the supervisor writes, and before the
start alone. All of them are in one place of the supervisor's own, in memory where the host has such a file system. The
run's uid may pass through that place, and nobody may list it; the directories' names cannot be guessed. It is locked
as the scratch of plain runs is, so that what a killed supervisor left goes with the next start. Not covered: a run
without namespaces, which has the uid of its supervisor, can change the permissions of its script and then its text.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import secrets
import tempfile
import threading
from collections.abc import Collection

from ringfence.sandbox.launch.making.scratch import OTHERS, Place
from ringfence.sandbox.wrappers.barriers import barrier
from ringfence.sandbox.wrappers.bottom import EVERYBODY, NoPlaceError


class Folder:
    """One run's directory, at `path` on the host and at `inside` for the script. Close it when the run is over.

    A run that is shown the host has another for its `/proc`, which goes with this one.
    """

    def __init__(self, path: str, inside: str | None = None) -> None:
        """Make it. Raises OSError."""
        self.path = path
        self.inside = inside or path
        self._names: list[str] = []
        self._directories: list[str] = []
        self.proc: Folder | None = None
        self._is_closed = False
        os.mkdir(path)
        os.chmod(path, 0o755)  # noqa: S103 - the run's uid is another

    def put(self, name: str, content: bytes) -> None:
        """Make a file in it, which can be read and executed. Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(f"{self.path}/{name}", flags, 0o555)
        try:
            self._names.append(name)
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fchmod(descriptor, 0o555)
        finally:
            os.close(descriptor)

    def directory(self, name: str) -> None:
        """Make an empty directory in it, for something to be mounted on. Raises OSError."""
        os.mkdir(f"{self.path}/{name}")
        os.chmod(f"{self.path}/{name}", 0o755)  # noqa: S103 - there is nothing in it
        self._directories.append(name)

    def link(self, name: str, target: str) -> None:
        """Make a symbolic link in it. Raises OSError."""
        os.symlink(target, f"{self.path}/{name}")
        self._names.append(name)

    def close(self) -> None:
        """Remove it with what was put into it. What cannot be removed goes with the place that it is in."""
        if self._is_closed:
            return
        self._is_closed = True
        if self.proc is not None:
            self.proc.close()
            self.proc = None
        with contextlib.suppress(OSError):
            for name in self._names:
                os.unlink(f"{self.path}/{name}")
            for name in self._directories:
                os.rmdir(f"{self.path}/{name}")
            os.rmdir(self.path)


class Shelf:
    """Where this process's folders are. The place is made when the first is asked for, and again if it was removed."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._owner = os.getpid()
        self._one_at_a_time = threading.Lock()

    def folder(self, inside: str, hidden: Collection[str] = ()) -> Folder:
        """A new folder, in no `hidden` directory of the host. Raises OSError."""
        directory = place_for(hidden)
        name = secrets.token_hex(16)
        try:
            return Folder(f"{self._place(directory).path}/{name}", inside)
        except FileNotFoundError:
            self._forget(directory)
            return Folder(f"{self._place(directory).path}/{name}", inside)

    def remove(self) -> None:
        """Take away what this process made."""
        with self._one_at_a_time:
            if self._owner == os.getpid():
                for place in self._places.values():
                    place.close()
                self._places.clear()

    def _place(self, directory: str) -> Place:
        if self._owner == os.getpid() and (place := self._places.get(directory)) is not None:
            return place
        with self._one_at_a_time:
            if self._owner != os.getpid():
                self._places, self._owner = {}, os.getpid()
            if directory not in self._places:
                if not self._places:
                    atexit.register(self.remove)
                self._places[directory] = Place(directory)
            return self._places[directory]

    def _forget(self, directory: str) -> None:
        with self._one_at_a_time:
            if (place := self._places.pop(directory, None)) is not None:
                place.close()


def place_for(hidden: Collection[str] = ()) -> str:
    """Where a place can be made that everybody can reach, by preference one from which programs can be started.

    It is none of the `hidden` directories. Raises NoPlaceError.
    """
    others = [each for each in _candidates(tempfile.gettempdir()) if each[0] not in hidden]
    if not others:
        raise NoPlaceError("no directory that everybody can reach can be made on this host")
    return next((path for path, executes in others if executes), others[0][0])


@functools.lru_cache(maxsize=8)
def _candidates(temporary: str) -> tuple[tuple[str, bool], ...]:
    """The directories for a place, and whether programs can be started from them."""
    paths = dict.fromkeys((OTHERS[0], temporary, *OTHERS[1:]))
    return tuple(
        (path, not os.statvfs(path).f_flag & os.ST_NOEXEC)
        for path in paths
        if os.access(path, os.W_OK) and barrier(f"{path}/any", EVERYBODY, EVERYBODY) is None
    )


SHELF = Shelf()
"""The one of this process."""
