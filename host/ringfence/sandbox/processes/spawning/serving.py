"""What the spawner does for as long as the host is there: one request after the other, and each child to its end."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
from collections.abc import Callable
from fcntl import F_DUPFD_CLOEXEC, fcntl
from typing import Any

from .containing import end_with
from .packets import MAX_DESCRIPTORS, MAX_REQUEST, receive, send
from .starting import CAN_LATCH, become, end_calling, end_cleaning, end_keeping, fork, start_latched


class Child:
    """A child from its fork to its end: it has begun to be its program, runs, or is being killed."""

    def __init__(
        self,
        pid: int,
        pidfd: int,
        told: int | None = None,
        answer: socket.socket | None = None,
        lock: int | None = None,
    ) -> None:
        """Of an orphan, nobody hears; `told` is open until it is its program; only a leased identity has a lock."""
        self.pid, self.pidfd, self.told = pid, pidfd, told
        self._answer, self._lock = answer, lock

    def tell(self, text: str, *descriptors: int) -> bool:
        """Send a reply; False if it cannot be sent."""
        return self._answer is None or send(self._answer, text, *descriptors)

    def kill(self) -> None:
        """SIGKILL it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)

    def abandon(self) -> None:
        """Kill it, and say no more of it."""
        self.kill()
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def close(self) -> None:
        """Let go of it, when it has been reaped."""
        os.close(self.pidfd)
        if self._answer is not None:
            self._answer.close()
        if self._lock is not None:
            os.close(self._lock)


class Server:
    """Serves requests and reports the end of each child, until the host closes its side."""

    def __init__(self, requests: socket.socket, *, keeps_orphans: bool, parent: int | None) -> None:
        """Serve `requests`, and end with `parent`, if that is the pidfd of one.

        Orphans are a plain run's own processes, and kept; a sandbox has none that live on.
        """
        self._requests = requests
        self._keeps_orphans = keeps_orphans
        self._parent = parent
        self._children: dict[int, Child] = {}
        # Not epoll: what that keeps is counted for the user, and may be used up.
        self._poll = select.poll()
        self._heard: dict[int, Callable[[], object]] = {}
        self._gone = False
        self._listen(requests.fileno(), self._accept)

    def serve(self) -> None:
        """Serve until the host is gone. What still runs then is not ended by this."""
        while not self._gone:
            for descriptor, _ in self._poll.poll():
                # One before it in this turn may have ended it.
                if descriptor in self._heard:
                    self._heard[descriptor]()

    def _listen(self, descriptor: int, callback: Callable[[], object]) -> None:
        self._heard[descriptor] = callback
        self._poll.register(descriptor, select.POLLIN)

    def _ignore(self, descriptor: int) -> None:
        del self._heard[descriptor]
        self._poll.unregister(descriptor)

    def _accept(self) -> None:
        try:
            data, received = receive(self._requests, MAX_REQUEST, MAX_DESCRIPTORS)
        except ConnectionResetError:
            # A host that was killed with a reply unread.
            data, received = b"", []
        except OSError:
            # Out of memory, for now: the request is still there.
            return
        if not data:
            self._gone = True
            return
        if not received:
            # Nobody to tell: its end of the reply socket has closed on the way, which says so.
            return
        answer = socket.socket(fileno=received.pop(0))
        answer.setblocking(False)
        try:
            self._serve(data, received, answer)
        except Exception as error:
            # Whatever it is (see the test): it is this request's, and the others go on.
            send(answer, f"E {(isinstance(error, OSError) and error.errno) or errno.EIO}")
            answer.close()
        finally:
            for descriptor in received:
                os.close(descriptor)

    def _serve(self, data: bytes, received: list[int], answer: socket.socket) -> None:
        request: dict[str, Any] = json.loads(data)
        leased = request.get("identity") is not None
        if len(received) < 1 + leased:
            # Those for which there was no room are lost on the way (recvmsg(2)).
            raise OSError(errno.EMFILE, "descriptors did not arrive")
        lock = fcntl(received[1], F_DUPFD_CLOEXEC, 3) if leased else None
        try:
            pid, told = self._start(request, [received[0], *received[1 + leased :]])
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            # Nobody could be told how it ends: it does not even begin.
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            for held in (told, lock):
                if held is not None:
                    os.close(held)
            raise
        child = self._children[pid] = Child(pid, pidfd, told, answer, lock)
        self._listen(pidfd, self._reap)
        if told is None:
            self._on_started(child)
        else:
            self._listen(told, lambda: self._on_told(child))

    def _start(self, request: dict[str, Any], received: list[int]) -> tuple[int, int | None]:
        """The pid of a request's child, and the end on which it tells whether it is its program; None if it is that.

        Raises:
            OSError: if there is none.
        """
        leased = request.get("identity") is not None
        if leased and request.get("clean"):
            return fork(lambda tell: end_cleaning(request, tell))
        if "state" in request:
            return fork(lambda tell: end_keeping(request, received, tell))
        if "call" in request:
            return fork(lambda tell: end_calling(request, received, tell))
        if "latch" not in request or not CAN_LATCH:
            return fork(lambda tell: become(request, received, tell))
        try:
            return start_latched(request, received), None
        finally:
            if leased and self._parent is not None:
                end_with(self._parent)

    def _on_told(self, child: Child) -> None:
        """The child is its program now, or could not be: not waited for, since a run may keep it from going on."""
        if child.told is None:
            return
        failure = os.read(child.told, 16).decode()
        self._ignore(child.told)
        os.close(child.told)
        child.told = None
        if failure:
            child.tell(f"E {failure}")
            child.abandon()
        else:
            self._on_started(child)

    def _on_started(self, child: Child) -> None:
        if not child.tell("P", child.pidfd):
            # ETOOMANYREFS, if as many descriptors are under way as our uid may have (unix(7)); or no memory.
            child.tell(f"E {errno.ETOOMANYREFS}")
            child.abandon()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._leave(*ended)
        if not self._keeps_orphans:
            self._end_orphans()

    def _leave(self, pid: int, status: int) -> None:
        child = self._children.pop(pid, None)
        if child is None:
            return
        self._on_told(child)
        self._ignore(child.pidfd)
        child.tell(f"X {status}")
        child.close()

    def _end_orphans(self) -> None:
        """Kill what a wrapper left behind that was cut off while it set up; a namespace's init takes all along."""
        for pid in children():
            if pid not in self._children:
                with contextlib.suppress(OSError):
                    orphan = Child(pid, os.pidfd_open(pid))
                    self._children[pid] = orphan
                    self._listen(orphan.pidfd, self._reap)
                    orphan.kill()


def kill_adopted() -> None:
    """Kill every child, and whatever becomes one by that, generation by generation, until there is none."""
    while living := children():
        for pid in living:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def children() -> list[int]:
    """The pids of our children, also of those that ended and were not reaped; none where the kernel does not tell."""
    with contextlib.suppress(OSError), open("/proc/thread-self/children") as listed:
        return [int(pid) for pid in listed.read().split()]
    return []
