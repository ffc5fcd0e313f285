"""A wrapper and what it needs, opened in this process, for a child that gets descriptors under their own numbers.

(Runs get theirs under other numbers: see `launch`.)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Mapping, Sequence

from ringfence.sandbox.wrappers.room import Room, Wrapper
from ringfence.sandbox.wrappers.stage import stage


class Opened:
    """What a wrapper needs by descriptor. `numbers` are to be passed on, and `environment` to be set."""

    def __init__(self, held: contextlib.ExitStack, wrapper: Wrapper) -> None:
        """Open the wrapper and its libraries, until `held` is left.

        Raises:
            OSError: if one cannot be opened.
        """
        self._held = held
        self._wrapper = wrapper
        self.numbers: list[int] = []
        # Above all that is open: what a wrapper needs has numbers one after the other.
        self._next = max(map(int, os.listdir("/proc/self/fd"))) + 1
        self._program, *libraries = map(self._open, (wrapper.program, *wrapper.libraries))
        preloaded = " ".join(f"/proc/self/fd/{library}" for library in libraries)
        self.environment: Mapping[str, str] = {"LD_PRELOAD": preloaded} if preloaded else {}

    def started(self, room: Room, command: Sequence[str]) -> list[str]:
        """The arguments of a child that makes this room and runs the command in it."""
        start = self._wrapper.start(room, command, self)
        if start.preparation is None:
            return [f"/proc/self/fd/{self._program}", *start.arguments]
        return stage([start.preparation], self._program, start.arguments)

    def data(self, content: bytes) -> int:
        descriptor = self._keep(os.memfd_create("ringfence-data", os.MFD_CLOEXEC))
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    def data_of_one(self, content: bytes) -> int:
        return self.data(content)

    def own(self, name: str) -> str:
        directory = self._held.enter_context(tempfile.TemporaryDirectory())
        os.chmod(directory, 0o755)  # noqa: S103 - there is nothing in it
        return directory

    def directory(self, path: str) -> int:
        return self._open(path, os.O_PATH | os.O_DIRECTORY)

    def info(self) -> int:
        return self._open(os.devnull, os.O_WRONLY)

    def errors(self) -> int:
        # What the wrapper says is wanted as much as what the command does.
        return 2

    def kept(self) -> tuple[int, ...]:
        return ()

    def program(self) -> int | None:
        return None

    def latch(self) -> int | None:
        return None

    def _open(self, path: str, flags: int = os.O_RDONLY) -> int:
        return self._keep(os.open(path, flags | os.O_CLOEXEC))

    def _keep(self, descriptor: int) -> int:
        try:
            number = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, self._next)
        finally:
            os.close(descriptor)
        self._held.callback(os.close, number)
        self.numbers.append(number)
        self._next = number + 1
        return number
