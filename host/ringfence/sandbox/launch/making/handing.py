"""The descriptors of one launch: made for it, given to the wrapper by number, and closed when it is done."""

from __future__ import annotations

import fcntl
import functools
import io
import os
import socket
import stat
from collections.abc import Collection

from ringfence.sandbox.identities.leases import Lease
from ringfence.sandbox.launch.making import viewing
from ringfence.sandbox.launch.making.folders import SHELF, Folder
from ringfence.sandbox.launch.words import LaunchFailed
from ringfence.sandbox.numbers import (
    FIRST_PRIVATE,
    LATCH,
    WRAPPER,
)
from ringfence.sandbox.plan.furnish import OWN_PROC_FOLDER, PROC, SCRIPT
from ringfence.sandbox.plan.model import Plan
from ringfence.sandbox.policy import FilesystemMode
from ringfence.sandbox.processes.registers import register_of

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Placed:
    """What the wrapper needs: each is given the next number that is free in its process."""

    def __init__(
        self, inside: dict[int, int], ours: Descriptors, info: int, folder: Folder, *, on_stage: bool
    ) -> None:
        self._inside = inside
        self._ours = ours
        self._info = info
        self._folder = folder
        self._on_stage = on_stage
        self._kept = tuple(number for number in inside if number > 2)
        self.log = -1
        self.waits = False

    def own(self, name: str) -> str:
        folder = self._folder.proc if name == OWN_PROC_FOLDER else self._folder
        assert folder is not None
        return folder.path

    def data(self, content: bytes) -> int:
        return self._put(self._ours.constant(content))

    def data_of_one(self, content: bytes) -> int:
        return self._put(self._ours.memory("data", content))

    def info(self) -> int:
        return self._put(self._info)

    def errors(self) -> int:
        number = self._put(self._inside[2])
        self.log = self._inside[2] = self._ours.memory("log", b"")
        return number

    def kept(self) -> tuple[int, ...]:
        return self._kept

    def program(self) -> int | None:
        return WRAPPER if self._on_stage else None

    def latch(self) -> int | None:
        # What comes before it on a stage would not wait.
        self.waits = not self._on_stage
        return LATCH if self.waits else None

    def _put(self, descriptor: int) -> int:
        number = max(max(self._inside) + 1, FIRST_PRIVATE)
        self._inside[number] = descriptor
        return number


@functools.cache
def _empty() -> io.FileIO:
    """The memory file that holds nothing: who reads it is at its end, so all launches can share an open description."""
    return _constant(b"")


@functools.lru_cache(maxsize=128)
def _constant(data: bytes) -> io.FileIO:
    """A sealed memory file, which is closed when it is needed no more."""
    with needed("a memory file cannot be made"):
        file = io.FileIO(os.memfd_create("ringfence-data", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "r+")
        write_all(file.fileno(), data)
        fcntl.fcntl(file.fileno(), fcntl.F_ADD_SEALS, SEALS)
    return file


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class needed:
    """What a launch cannot do without. Raises LaunchFailed in place of OSError.

    No generator: it is entered two dozen times for each launch.
    """

    __slots__ = ("_failure",)

    def __init__(self, failure: str) -> None:
        self._failure = failure

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError):
            raise LaunchFailed(f"{self._failure}: {error.strerror or error}") from error


class Descriptors:
    """Descriptors made for one launch: all closed at the end but those that are kept."""

    def __init__(self) -> None:
        self._open: list[int] = []
        self._sockets: list[socket.socket] = []
        self._lease: Lease | None = None
        self._folder: Folder | None = None

    def __enter__(self) -> Descriptors:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open:
            os.close(descriptor)
        for end in self._sockets:
            end.close()
        if self._lease is not None:
            self._lease.close()
        if self._folder is not None:
            self._folder.close()

    def folder(self, hidden: Collection[str], plan: Plan) -> Folder:
        """The directory of this launch's script, in none that is hidden from what mounts it."""
        with needed("a directory for the script cannot be made"):
            self._folder = SHELF.folder(SCRIPT, hidden)
            if plan.host_view:
                self._folder.proc = SHELF.folder(PROC, hidden)
                viewing.make(self._folder.proc, plan)
        return self._folder

    def keep_folder(self) -> None:
        self._folder = None

    def lease(self, plan: Plan) -> Lease | None:
        """A uid for this launch alone, if its plan wants one."""
        if plan.uids is not None:
            reaching = plan.filesystem is FilesystemMode.OFF
            self._lease = register_of(plan.uids).lease(reaching=reaching)
        return self._lease

    def keep_lease(self) -> None:
        self._lease = None

    def open(self, path: str, flags: int) -> int:
        with needed(f"{path} cannot be opened"):
            descriptor = os.open(path, flags | os.O_CLOEXEC)
        self._open.append(descriptor)
        return descriptor

    def pipe(self) -> tuple[int, int]:
        with needed("a pipe cannot be made"):
            ends = os.pipe2(os.O_CLOEXEC)
        self._open += ends
        return ends

    def output(self) -> tuple[int, int]:
        """A pipe that a script can open by name: `echo … >/dev/stderr` opens it anew, as the uid of the run.

        Nobody else comes by it: the name leads over /proc to a descriptor that only the run's processes have.
        """
        reading, writing = self.pipe()
        os.fchmod(writing, stat.S_IRUSR | stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
        return reading, writing

    def sockets(self) -> tuple[socket.socket, socket.socket]:
        with needed("a channel cannot be made"):
            ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sockets += ends
        return ends

    def memory(self, name: str, data: bytes) -> int:
        with needed("a memory file cannot be made"):
            descriptor = os.memfd_create(f"ringfence-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._open.append(descriptor)
        write_all(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    def constant(self, data: bytes) -> int:
        """What holds this, read from its beginning, for one who closes it before any script begins.

        Many launches need the same. They read the same file, which nobody can change, each at a place of its own.
        """
        if not data:
            return _empty().fileno()
        # Held until it has been opened: of what two threads have made at once, only one is remembered.
        file = _constant(data)
        return self.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY)

    def keep(self, *descriptors: int) -> None:
        self._open = [descriptor for descriptor in self._open if descriptor not in descriptors]

    def keep_socket(self, end: socket.socket) -> None:
        self._sockets.remove(end)
