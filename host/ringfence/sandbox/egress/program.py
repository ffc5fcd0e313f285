"""A program of the plumbing, run by a spawner: until it is ready, has done its work, or is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping, Sequence

from ringfence.sandbox.probes import SEARCH_PATH
from ringfence.sandbox.spawner import Child, Ended, Spawner, SpawnFailed, Started, receive

READY, EXIT = 3, 4
"""The descriptors that a program gets: to write to when it is ready, and to end when it closes."""

INTERFACE = "egress0"
"""The name of the link inside, whatever the plumbing."""

_MOST_WORDS = 4096


class LinkFailed(RuntimeError):
    """The link could not be made; the message is the reason. Nothing of it is left."""


def find(name: str) -> str:
    """The path of a system program.

    Raises:
        LinkFailed: if it is not installed.
    """
    path = shutil.which(name, path=os.pathsep.join(SEARCH_PATH))
    if path is None:
        raise LinkFailed(f"{name} is not installed")
    return path


class Program:
    """A program of the plumbing, started by a spawner: it tells when it is ready, and ends when it is told to."""

    def __init__(self, spawner: Spawner, path: str, argv: Sequence[str], text: bytes = b"") -> None:
        self._name = argv[0]
        self._loop = asyncio.get_running_loop()
        self._pidfd = -1
        self._end: asyncio.Future[int] = self._loop.create_future()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        with contextlib.ExitStack() as ours:
            executable = _opened(ours, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            standard_input = _opened(ours, os.memfd_create("ringfence-input", os.MFD_CLOEXEC))
            os.write(standard_input, text)
            os.lseek(standard_input, 0, os.SEEK_SET)
            self._words, words = _pipe(ours)
            # What nobody reads is lost: a stack that waited to complain would serve nobody.
            os.set_blocking(words, False)
            self._ready_end, ready = _pipe(ours)
            if os.geteuid() == 0:
                # For a program that opens it once more, by its path under /proc/self/fd.
                os.fchown(ready, *spawner.identity)
            exit_end, self._exit = os.pipe2(os.O_CLOEXEC)
            _opened(ours, exit_end)
            inside: Mapping[int, int] = {
                0: standard_input,
                1: words,
                2: words,
                READY: ready,
                EXIT: exit_end,
            }
            self._child: Child = spawner.spawn(executable, argv, {"PATH": ":".join(SEARCH_PATH)}, inside)
        os.set_blocking(self._words, False)
        self._loop.add_reader(self._child.answers.fileno(), self._on_answer)
        self._loop.add_reader(self._ready_end, self._on_ready)

    async def ready(self) -> None:
        """Wait until it says that the link is there.

        Raises:
            LinkFailed: if it ends instead.
        """
        await asyncio.wait((self._ready, self._end), return_when=asyncio.FIRST_COMPLETED)
        if not self._ready.done() or self._ready.cancelled():
            raise LinkFailed(f"{self._name} ended: {self._said()}")

    async def succeed(self) -> None:
        """Wait until it has ended well.

        Raises:
            LinkFailed: if it has not.
        """
        try:
            if await self._end != 0:
                raise LinkFailed(f"{self._name} failed: {self._said()}")
        finally:
            await self.close()

    @property
    def ended(self) -> str | None:
        return f"{self._name} ended: {self._said()}" if self._end.done() else None

    async def close(self) -> None:
        try:
            # No farewell to wait for: there is nothing in it that outlives it.
            if self._pidfd >= 0 and not self._end.done():
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._close(self._exit)
            self._exit = -1
            await asyncio.shield(self._end)
        finally:
            self._forget()

    def _on_answer(self) -> None:
        try:
            answer = receive(self._child.answers)
        except BlockingIOError:
            return
        except SpawnFailed as error:
            self._finish(error)
            return
        if isinstance(answer, Started):
            self._pidfd = answer.pidfd
            if self._exit < 0:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        elif isinstance(answer, Ended):
            self._finish(answer.exit_code)

    def _finish(self, outcome: int | SpawnFailed) -> None:
        self._loop.remove_reader(self._child.answers.fileno())
        if self._end.done():
            return
        if isinstance(outcome, int):
            self._end.set_result(outcome)
        else:
            self._end.set_result(-1)
            self._failure = str(outcome)

    _failure: str | None = None

    def _on_ready(self) -> None:
        self._loop.remove_reader(self._ready_end)
        if os.read(self._ready_end, 1) and not self._ready.done():
            self._ready.set_result(None)

    def _said(self) -> str:
        try:
            words = os.read(self._words, _MOST_WORDS).decode(errors="replace")
        except (BlockingIOError, OSError):
            words = ""
        return self._failure or " ".join(words.split()) or "it said nothing"

    def _forget(self) -> None:
        self._loop.remove_reader(self._child.answers.fileno())
        self._loop.remove_reader(self._ready_end)
        for descriptor in (self._words, self._ready_end, self._pidfd):
            self._close(descriptor)
        self._words = self._ready_end = self._pidfd = -1
        self._child.answers.close()

    @staticmethod
    def _close(descriptor: int) -> None:
        if descriptor >= 0:
            os.close(descriptor)


def _opened(ours: contextlib.ExitStack, descriptor: int) -> int:
    ours.callback(os.close, descriptor)
    return descriptor


def _pipe(ours: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe of which the second end is for the child, and closed here."""
    end, inside = os.pipe2(os.O_CLOEXEC)
    return end, _opened(ours, inside)
