"""A program of the plumbing, run by a spawner: until it is ready, has done its work, or is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ringfence.sandbox.faults import is_passing, status_is_passing
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.leases import Lease
from ringfence.sandbox.processes.attempts import SEARCH_PATH
from ringfence.sandbox.processes.spawner import Ended, Spawner, SpawnFailed, Started, receive

READY, EXIT = 3, 4
"""The descriptors that a program gets: to write to when it is ready, and to end when it closes."""

INTERFACE = "egress0"
"""The name of the link inside, whatever the plumbing."""

_MOST_WORDS = 4096


class LinkFailed(RuntimeError):
    """The link could not be made; the message is the reason. Nothing of it is left.

    Attributes:
        passing: whether the reason may be gone at the next attempt.
    """

    def __init__(self, reason: str, *, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing or is_passing(reason)


def find(name: str) -> str:
    """The path of a system program.

    Raises:
        LinkFailed: if it is not installed.
    """
    path = shutil.which(name, path=os.pathsep.join(SEARCH_PATH))
    if path is None:
        raise LinkFailed(f"{name} is not installed")
    return path


@dataclass(frozen=True, slots=True)
class ReadyFile:
    """A file that a program writes when it is ready, for one that cannot be told of a descriptor: a named pipe.

    `descriptor` is its reading end.
    """

    path: str
    descriptor: int


@contextlib.contextmanager
def ready_file(identity: Identity) -> Iterator[ReadyFile]:
    """A file that this identity can write to, in a directory that nobody else can look into, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="ringfence-ready-") as directory, contextlib.ExitStack() as held:
        path = os.path.join(directory, "ready")
        os.mkfifo(path, 0o600)
        # Without waiting for somebody who writes; and so that whoever opens it to write need not wait either. While
        # the directory is ours alone: afterwards, the path could be made to lead elsewhere.
        descriptor = _closing(held, os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        if os.geteuid() == 0:
            for mine in (path, directory):
                os.chown(mine, *identity)
        elif identity.uid != os.geteuid():
            # We cannot give it away. Whoever does not know its name, which is random, cannot come by it.
            os.chmod(path, 0o622)  # noqa: S103 - as said
            os.chmod(directory, 0o711)  # noqa: S103 - to be passed through, and no more
        yield ReadyFile(path, descriptor)


class Program:
    """A program of the plumbing, from its start until `close`, which ends it.

    It gets nothing of the supervisor but its input, and the two descriptors by which they talk. The other end of
    `EXIT` is held open by the supervisor alone: however that ends, a program that watches it ends too.
    """

    def __init__(
        self,
        spawner: Spawner,
        path: str,
        argv: Sequence[str],
        text: bytes = b"",
        ready_file: ReadyFile | None = None,
        lease: Lease | None = None,
        limits: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Start it, with `text` as its standard input, on the running loop.

        It says that it is ready on `READY`, or by `ready_file`, whose path it must be given too. If the spawner's
        children are leaving, it leaves for the identity of `lease`. It has no more than `limits`.

        Raises:
            OSError: if it cannot be opened.
            SpawnFailed: if the spawner is gone.
        """
        self._name = argv[0]
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[Ended | SpawnFailed] = self._loop.create_future()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._pidfd: int | None = None
        self._wanted = True
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            executable = _closing(theirs, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            standard_input = _closing(theirs, os.memfd_create("ringfence-input", os.MFD_CLOEXEC))
            os.write(standard_input, text)
            os.lseek(standard_input, 0, os.SEEK_SET)
            self._words, words = _pipe(ours, theirs)
            self._readiness, ready = _pipe(ours, theirs)
            if ready_file is not None:
                self._readiness = _closing(ours, os.dup(ready_file.descriptor))
            exit_end, _ = _pipe(theirs, ours)
            os.set_blocking(self._words, False)
            # What nobody reads is lost: a stack that waited to complain would serve nobody.
            os.set_blocking(words, False)
            inside = {0: standard_input, 1: words, 2: words, READY: ready, EXIT: exit_end}
            self._child = spawner.spawn(
                executable, argv, {"PATH": ":".join(SEARCH_PATH)}, inside, lease=lease, limits=limits
            )
            ours.callback(self._child.answers.close)
            self._ours = ours.pop_all()
        self._read(self._child.answers.fileno(), self._on_answer)
        self._read(self._readiness, self._on_ready)

    async def ready(self) -> None:
        """Wait until it says that it is ready.

        Raises:
            LinkFailed: if it ends instead.
        """
        await asyncio.wait((self._ready, self._end), return_when=asyncio.FIRST_COMPLETED)
        if not self._ready.done():
            raise self._failure()

    async def succeed(self) -> None:
        """Wait until it has done its work, and close it.

        Raises:
            LinkFailed: if it failed.
        """
        try:
            if await asyncio.shield(self._end) != Ended(0):
                raise self._failure()
        finally:
            await self.close()

    @property
    def ended(self) -> str | None:
        """How it ended, if it has; None while it runs."""
        return self._how_it_ended() if self._end.done() else None

    async def close(self) -> None:
        """Kill it, and return when it is gone. It has no state to save, so there is no farewell to wait for."""
        self._wanted = False
        self._kill()
        try:
            await asyncio.shield(self._end)
        finally:
            self._ours.close()

    def _on_answer(self) -> None:
        try:
            answer = receive(self._child.answers)
        except BlockingIOError:
            return
        except SpawnFailed as error:
            self._finish(error)
            return
        if isinstance(answer, Started):
            self._pidfd = _closing(self._ours, answer.pidfd)
            if not self._wanted:
                self._kill()
        else:
            self._finish(answer)

    def _finish(self, how: Ended | SpawnFailed) -> None:
        self._loop.remove_reader(self._child.answers.fileno())
        self._end.set_result(how)

    def _on_ready(self) -> None:
        self._loop.remove_reader(self._readiness)
        if os.read(self._readiness, 1):
            self._ready.set_result(None)

    def _kill(self) -> None:
        if self._pidfd is not None and not self._end.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _failure(self) -> LinkFailed:
        """It ended when it should not have. Without a spawner it had no chance."""
        how = self._end.result()
        passing = isinstance(how, SpawnFailed) or status_is_passing(how.exit_code)
        return LinkFailed(self._how_it_ended(), passing=passing)

    def _how_it_ended(self) -> str:
        words = ""
        with contextlib.suppress(BlockingIOError):
            words = " ".join(os.read(self._words, _MOST_WORDS).decode(errors="replace").split())
        how = self._end.result()
        status = how if isinstance(how, SpawnFailed) else f"with status {how.exit_code}"
        return f"{self._name} ended: {words or status}"

    def _read(self, descriptor: int, callback: Callable[[], None]) -> None:
        self._loop.add_reader(descriptor, callback)
        self._ours.callback(self._loop.remove_reader, descriptor)


def _closing(stack: contextlib.ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def _pipe(reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe whose ends are closed with whom they belong to."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    return _closing(reader, reading), _closing(writer, writing)
