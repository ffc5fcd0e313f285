"""A run's own `/proc`, which lists exactly the processes of its PID namespace, and what is measured of each of them.

What ends while it is looked at may have handed what it had to a child, so the processes are listed again, and the new
ones measured too. Time is bounded in processor time of the thread that looks: a busy machine takes none of it. And in
time that it waits for anything but a processor: a process that forks all the while holds the lock of its memory, for
which whoever looks at that has to wait, while another takes memory.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ringfence.sandbox.limits.counting import procfs

ROUNDS = 4
"""How often the processes are listed again, as long as some have ended while they were looked at."""

INIT = "1"
"""The namespace's own init. The wrapper's is covered by a mount (see `furnish`), and no script's."""

HELD_UP_PER_CPU_S = 4.0
"""How much longer a look may be held up for each second of processor time that this process has used meanwhile: its
threads wait for each other as well, on a busy machine for long."""

_SCHEDSTAT = "/proc/thread-self/schedstat"

_CHUNK = 1024 * 1024
_LONGEST_STATUS = 1024 * 1024
"""A status has a list of groups in it, of which there can be 65,536 (credentials(7))."""

Found = TypeVar("Found")


class NotSeen(Exception):
    """What a run uses could not be told; the message says why. Whoever holds its limits has to end it."""


class TreeGone(NotSeen):
    """The run's init has ended, or is about to, so that there is no way to look into its namespace."""


class Gone(Exception):
    """A process has ended, or gives up what was to be measured."""


class TookTooLong(Exception):
    """The processor time is used up."""


class Clock:
    """So much processor time of this thread; and, if so wanted, not much more in which it is held up."""

    def __init__(self, seconds: float, *, held_up_s: float | None = None) -> None:
        self._until = time.thread_time() + seconds
        self._held_up_s = held_up_s
        self._begun, self._cpu_before = time.monotonic(), time.process_time()
        self._queued_before = _queued_s()

    def check(self) -> None:
        """Raise TookTooLong if it is used up."""
        if time.thread_time() > self._until or self._is_held_up():
            raise TookTooLong

    def _is_held_up(self) -> bool:
        if self._held_up_s is None:
            return False
        used = time.process_time() - self._cpu_before
        most = self._held_up_s + used * HELD_UP_PER_CPU_S
        waited = time.monotonic() - self._begun - used
        if waited <= most or self._queued_before is None:
            return False
        queued = _queued_s()
        return queued is not None and waited - (queued - self._queued_before) > most


def _queued_s() -> float | None:
    """How long this thread has waited for a processor (Documentation/scheduler/sched-stats.rst); None if untold."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        descriptor = os.open(_SCHEDSTAT, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.read(descriptor, 100).split()[1]) / 1e9
        finally:
            os.close(descriptor)
    return None


@dataclass(slots=True)
class Each(Generic[Found]):
    """What was measured of each process, and which have ended meanwhile."""

    of: dict[str, Found] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)


class Namespace:
    """The `/proc` of a PID namespace, seen through its init, whose pid in our own is `init`."""

    def __init__(self, directory: int, init: int) -> None:
        """Read in `directory`, an open descriptor, which stays the caller's to close."""
        self.directory = directory
        self.init = init

    def each(self, measure: Callable[[str], Found], clock: Clock) -> Each[Found]:
        """What is measured of each process, and of those that were born while others ended. `measure` may raise Gone.

        Raises:
            TookTooLong: by the clock.
        """
        each: Each[Found] = Each()
        for _ in range(ROUNDS):
            before = len(each.ended)
            for pid in self.processes():
                if pid not in each.of and pid not in each.ended:
                    clock.check()
                    try:
                        each.of[pid] = measure(pid)
                    except Gone:
                        if pid != INIT:
                            each.ended.add(pid)
            if len(each.ended) == before:
                break
        return each

    def processes(self) -> list[str]:
        """The pids in the namespace, init's among them, as the names of their directories; none if it has ended."""
        return [name for name in os.listdir(self.directory) if name.isdigit()]

    # What one process shows. Each raises Gone, and whatever else the kernel refuses as OSError.

    def threads(self, pid: str) -> list[str]:
        """The threads of a process, its first among them."""
        return self.names(f"{pid}/task")

    def status(self, place: str) -> bytes:
        """The status of a process or thread."""
        return b"".join(self.chunks(f"{place}/status", _LONGEST_STATUS))

    def names(self, path: str) -> list[str]:
        """What is in a directory."""
        with _of_one(), self._opened(path, os.O_DIRECTORY) as directory:
            return os.listdir(directory)

    def stat(self, path: str) -> os.stat_result:
        """What a path leads to."""
        with _of_one():
            return os.stat(path, dir_fd=self.directory)

    def chunks(self, path: str, most: int | None = None) -> Iterator[bytes]:
        """A file, in pieces."""
        with _of_one(), self._opened(path) as file:
            while (most is None or most > 0) and (data := os.read(file, _CHUNK)):
                if most is not None:
                    most -= len(data)
                yield data

    @contextlib.contextmanager
    def _opened(self, path: str, flags: int = 0) -> Iterator[int]:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=self.directory)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _of_one() -> Iterator[None]:
    """Tell what has ended from all that may fail when a process is looked at."""
    try:
        yield
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Gone from error


@contextlib.contextmanager
def telling(what: str) -> Iterator[None]:
    """Say of whatever fails that the look did, and with it whether the run has ended."""
    try:
        yield
    except (FileNotFoundError, ProcessLookupError, Gone) as error:
        raise TreeGone("its init has ended") from error
    except (OSError, procfs.UnknownFormat) as error:
        raise NotSeen(f"{what} cannot be read: {error}") from error
