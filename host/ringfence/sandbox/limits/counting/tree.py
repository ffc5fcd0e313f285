"""How much a run's whole tree uses, read from `/proc`: what holds the per-run limits where no cgroup is ours.

Threat: a script takes memory where nobody looks, tells stories to who looks, or makes looking take for ever. Mechanism:
all processes of a run are in its own PID namespace, and the namespace's own `/proc` lists exactly those; double forks
and `setsid` change nothing. A look goes from the cheap to the exact, and ends at the first sum within the limit:

1. as many bytes as could be: resident pages, swap and page tables of each process, and what the kernel keeps of so many
   mappings as its size has room for;
2. the same with the mappings that there are;
3. the exact proportional share (PSS), so that a script that forks is not wronged, with memory that several processes
   have together (`vfork`, CLONE_VM) counted once.

A process whose first thread has ended shows its memory by another of its threads. What ends while it is looked at may
have handed its memory to a child, so the children that it left are looked at too. What may not be read counts by its
upper bound. The text is read as `procfs` says. The exact part has a bound in processor time, in proportion to the
limit, and one in how long a script can hold it up; what cannot be told by then counts by its upper bound.

Not covered: between two looks a script can exceed the limit, by at most what it can touch in that time (the interval
shrinks with the headroom; docs/limits.md says how far, as measured). Pages that no process maps are not seen, which is
why scratch, shared memory files and file size have limits of their own, and why the syscall filter refuses other ways
to make some. Locks of files are memory of the kernel's that nothing else is relied on to bound, not even a cgroup, so
they are counted here.
"""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import dataclass

from ringfence.sandbox.limits.counting import mapped, procfs
from ringfence.sandbox.limits.counting.buffers import MOST_IN_NETWORK, Held
from ringfence.sandbox.limits.counting.descriptors import Descriptors
from ringfence.sandbox.limits.counting.namespace import (
    Clock,
    Namespace,
    NotSeen,
    TookTooLong,
    TreeGone,
    telling,
)

__all__ = ["MOST_IN_NETWORK", "MOST_LOCKS", "NotSeen", "Tree", "TreeGone", "Use", "next_look"]

MOST_LOCKS = 10_000
"""So many locks of files may a run hold, at some 200 bytes each. A database holds a handful."""

FASTEST_GROWTH = 4 * 1024**3
"""Bytes per second that a script is taken to touch at most."""

STATE = "state"
"""What the state directory is called in `/tmp`, as `plan.furnish` has it."""

SHORTEST_INTERVAL_S = 0.005
LONGEST_INTERVAL_S = 0.1

CHEAP_CPU_S = 5.0
"""How much processor time the upper bound may take; it takes some microseconds for each process."""

EXACT_CPU_S, EXACT_CPU_S_PER_GIB = 0.25, 0.5
"""How much processor time the exact part may take, and how much more for each GiB of the limit."""

HELD_UP_S = 1.0
"""How long the exact part may wait for anything but a processor: for locks that a script's processes hold."""

NEGLIGIBLE = 64
"""What descriptors can hold is not looked at closely if it is less than this part of the limit."""

_LONGEST_LOCK = 128
"""How long a line of `/proc/locks` is at most (proc_locks(5))."""


@dataclass(frozen=True, slots=True)
class Use:
    """What a run has in use: bytes of memory, files and directories in scratch, locks of files.

    Memory is an upper bound as long as that is within the limit. `network` is what of it are buffers of TCP and UDP.
    """

    memory: int
    files: int
    locks: int
    network: int = 0


class Tree:
    """The processes of one PID namespace, seen through its init. Close it when the run is over."""

    def __init__(self, init: int, *, own_network: bool, proc: str = "/proc") -> None:
        """Open the namespace's `/proc`, which is at `proc` for its processes, and its `/tmp`.

        `own_network`: its network namespace is no other's.

        Raises:
            TreeGone: if init is gone already.
            NotSeen: if it fails.
        """
        with telling("the run's /proc"), contextlib.ExitStack() as opened:
            self._proc = os.open(f"/proc/{init}/root{proc}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, self._proc)
            self._scratch = os.open(f"/proc/{init}/root/tmp", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, self._scratch)
            self._state = _mounted(self._scratch)
            opened.pop_all()
        self._namespace = Namespace(self._proc, init)
        self._descriptors = Descriptors(self._namespace, own_network=own_network)

    def close(self) -> None:
        """Let go of the namespace."""
        os.close(self._proc)
        os.close(self._scratch)
        if self._state is not None:
            os.close(self._state)

    def look(self, memory_limit: int | None) -> Use:
        """What the run uses at this moment; its memory is 0 without a limit on it, which is then the kernel's to keep.

        It blocks, for as long as the kernel takes to tell: it belongs on a thread. What has ended uses nothing.

        Raises:
            NotSeen: if it cannot be told.
        """
        with telling("what the run uses"):
            held = in_use(self._namespace, self._descriptors, memory_limit)
            return Use(held.bytes, self._files(), self._locks(), held.network)

    def _files(self) -> int:
        """How many files and directories there are in scratch, in `/tmp` and in the state directory."""
        places = (self._scratch,) if self._state is None else (self._scratch, self._state)
        return sum(facts.f_files - facts.f_ffree for facts in map(os.fstatvfs, places))

    def _locks(self) -> int:
        """How many locks of files its processes hold, or at least that there are more than `MOST_LOCKS`.

        The namespace's `/proc` lists its own processes' alone. (Those of open file descriptions, which belong to no
        process, are not to be had: see `seccomp`.)
        """
        return procfs.locks(b"".join(self._namespace.chunks("locks", MOST_LOCKS * _LONGEST_LOCK)))


def _mounted(scratch: int) -> int | None:
    """The run's state directory, if it has one: no script can mount anything there."""
    try:
        found = os.open(STATE, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=scratch)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if os.fstat(found).st_dev != os.fstat(scratch).st_dev:
        return found
    os.close(found)
    return None


def in_use(namespace: Namespace, descriptors: Descriptors, limit: int | None) -> Held:
    """What is mapped and in descriptors: exact if above `limit` and it can be told in time, else an upper bound.

    Without a limit only what TCP and UDP have is told: that is a pool of the machine's, which no cgroup divides.
    """
    clock = Clock(CHEAP_CPU_S)
    try:
        held = descriptors.at_most(clock)
        touched = mapped.at_most(namespace, clock) if limit is not None else 0
    except TookTooLong:
        raise NotSeen(f"looking at its processes takes more than {CHEAP_CPU_S:.0f} s") from None
    room = math.inf if limit is None else limit
    clock = Clock(EXACT_CPU_S + EXACT_CPU_S_PER_GIB * (limit or 0) / 1024**3, held_up_s=HELD_UP_S)
    with contextlib.suppress(TookTooLong):
        is_much = held.bytes > room / NEGLIGIBLE and held.bytes + touched > room
        if is_much or held.network > MOST_IN_NETWORK:
            for exact_held in descriptors.exactly(room, clock):
                held = held.least(exact_held)
                if held.bytes + touched <= room and held.network <= MOST_IN_NETWORK:
                    break
        if limit is not None and held.bytes + touched > limit:
            for exact in mapped.exactly(namespace, limit - held.bytes, clock):
                touched = min(touched, exact)
                if held.bytes + touched <= limit:
                    break
    return Held(held.bytes + touched if limit is not None else 0, held.network)


def next_look(used: int, limit: int) -> float:
    """Seconds until the tree should be looked at again: before it could have used up its headroom."""
    return min(max((limit - used) / FASTEST_GROWTH, SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S)
