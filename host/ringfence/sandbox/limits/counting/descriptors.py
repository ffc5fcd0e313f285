"""The descriptors of a run, in every table that there is: each thread may have one of its own (clone(2), CLONE_FILES).

What they hold is judged by `buffers`: cheaply by their number, or one by one.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ringfence.sandbox.limits.counting import buffers, procfs
from ringfence.sandbox.limits.counting.buffers import Held, Queued, Sockets, Tally
from ringfence.sandbox.limits.counting.families import KCMP_FILES, compare, members
from ringfence.sandbox.limits.counting.namespace import Clock, Gone, Namespace
from ringfence.sandbox.processes.descent import threads

ATTEMPTS = 8
"""How often the descriptors are looked at again as long as what has none seems too much: sockets come and go."""

_LONGEST_COUNTS = 64 * 1024

PIDFD_THREAD = os.O_EXCL
"""Of pidfd_open(2): a descriptor of a thread, since Linux 6.9."""


def _kernel_counts_descriptors() -> bool:
    """Whether the size of `/proc/PID/fd` is their number, as since Linux 6.2 (proc_pid_fd(5))."""
    return os.stat("/proc/self/fd").st_size > 0


class _Enough(Exception):
    """It is certain that more is held than may be."""


class Descriptors:
    """What is held by the descriptors of a namespace's processes, and by their sockets without one.

    The latter only where the network namespace is the run's own: in the host's, they are not the run's alone.
    """

    def __init__(self, namespace: Namespace, *, own_network: bool) -> None:
        self._namespace = namespace
        self._own_network = own_network
        self._are_counted = _kernel_counts_descriptors()

    def at_most(self, clock: Clock) -> Held:
        """What can be held by so many. Raises TookTooLong."""
        numbers = self._namespace.each(self._number, clock)
        return buffers.bound(sum(numbers.of.values()), self._sockets(numbers.of))

    def exactly(self, room: float, clock: Clock) -> Iterator[Held]:
        """What is held, as far as each descriptor tells: an upper bound again and again, as long as more is wanted.

        What comes and goes meanwhile counts for more, never for less. Nothing is told if it certainly is more than
        `room`, which is seen the sooner. Raises TookTooLong.
        """
        with contextlib.suppress(_Enough):
            yield from self._held(room, clock)

    def _held(self, room: float, clock: Clock) -> Iterator[Held]:
        before, pids = self._tally(Tally(), room, clock)
        for _ in range(ATTEMPTS):
            sockets = self._sockets(pids)
            now, pids = self._tally(Tally(known=before.sockets), room, clock)
            yield now.held(before, sockets, functools.partial(self._queued, pids))
            if now.sockets.keys() == before.sockets.keys():
                return
            before = now

    def _tally(self, tally: Tally, room: float, clock: Clock) -> tuple[Tally, list[str]]:
        """A tally of all descriptors, and the processes that have them. Raises _Enough."""
        hosts = members(self._namespace.init)
        each = self._namespace.each(lambda pid: self._add(tally, pid, hosts.get(pid), room, clock), clock)
        return tally, list(each.of)

    def _number(self, pid: str) -> int:
        """How many descriptors a process has, in the tables of all of its threads."""
        own = self._namespace.threads(pid)
        return sum(self._in_table(f"{pid}/task/{thread}") for thread in own)

    def _in_table(self, thread: str) -> int:
        try:
            if self._are_counted:
                return self._namespace.stat(f"{thread}/fd").st_size
            return procfs.number(self._namespace.status(thread), b"FDSize") or 0
        except Gone:
            return 0

    def _add(self, tally: Tally, pid: str, host: int | None, room: float, clock: Clock) -> None:
        """Take in the descriptors of a process."""
        for thread, owner in self._tables(pid, host):
            with _pidfd(owner, first=owner == host) as pidfd:
                try:
                    names = self._namespace.names(f"{pid}/task/{thread}/fd")
                except PermissionError:
                    tally.add_unseen(self._in_table(f"{pid}/task/{thread}"))
                    continue
                except Gone:
                    continue
                for name in names:
                    clock.check()
                    try:
                        found = self._namespace.stat(f"{pid}/task/{thread}/fd/{name}")
                    except PermissionError:
                        # What is about to end shows us, who are not root, nothing any more.
                        tally.add_unseen(1)
                    except Gone:
                        pass
                    else:
                        tally.add(pidfd, int(name), found)
                    if tally.certain > room:
                        raise _Enough

    def _tables(self, pid: str, host: int | None) -> Iterator[tuple[str, int | None]]:
        """The threads of a process that have a table of their own, each with its pid in our namespace."""
        inside = self._namespace.threads(pid)
        if len(inside) == 1 or host is None:
            yield from ((thread, host if thread == pid else None) for thread in inside)
            return
        outside = {}
        for own in threads(host):
            with contextlib.suppress(OSError, procfs.UnknownFormat):
                status = Path(f"/proc/{host}/task/{own}/status").read_bytes()
                outside[str(procfs.last_number(status, b"NSpid"))] = own
        seen: list[int] = []
        for thread in inside:
            owner = outside.get(thread)
            if owner is None:
                yield thread, None
            elif not any(compare(KCMP_FILES, owner, other) == 0 for other in seen):
                seen.append(owner)
                yield thread, owner

    def _sockets(self, pids: Iterable[str]) -> Sockets:
        """How many sockets there are in the network namespace, which is the same for all."""
        if self._own_network:
            for pid in pids:
                with contextlib.suppress(Gone, PermissionError):
                    told = [
                        b"".join(self._namespace.chunks(f"{pid}/net/{name}", _LONGEST_COUNTS))
                        for name in ("sockstat", "sockstat6")
                    ]
                    return Sockets.told(*told)
        return Sockets()

    def _queued(self, pids: Iterable[str]) -> Iterator[Queued]:
        for pid in pids:
            with contextlib.suppress(Gone, PermissionError):
                texts = [b"".join(self._namespace.chunks(f"{pid}/net/{name}")) for name in ("tcp", "tcp6")]
                yield from (socket for text in texts for socket in buffers.queued(text))
                return


@contextlib.contextmanager
def _pidfd(owner: int | None, *, first: bool) -> Iterator[int | None]:
    """A descriptor of a process or thread to take copies from; None if there can be none."""
    pidfd = None
    if owner is not None:
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(owner, 0 if first else PIDFD_THREAD)
    try:
        yield pidfd
    finally:
        if pidfd is not None:
            os.close(pidfd)
