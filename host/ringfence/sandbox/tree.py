"""How much a run's whole tree uses, read from `/proc`: what holds the per-run limits where no cgroup is ours.

All processes of a run are in its own PID namespace, and the namespace's own `/proc` lists exactly those: double forks
and `setsid` change nothing. Memory is first summed as resident pages, swap, page tables, and what the kernel keeps of
mappings, as many as there could be. That is cheap, and counts shared pages once per process; only when it exceeds the
limit are the exact proportional share (PSS) and number of mappings summed, so that a forking script is not wronged.

What this does not cover: between two looks a script can exceed the limit, by at most what it can touch in that time
(the interval shrinks with the headroom); and pages that no process maps are not seen (which is why scratch, shared
memory files and file size have limits of their own, and why the syscall filter refuses other ways to make some).
Buffers of pipes and sockets are such too; only a cgroup counts those. Locks of ranges of a file are memory of the
kernel's that nothing else is relied on to bound, not even a cgroup, so they are counted here.
"""

from __future__ import annotations

import contextlib
import os

_SIZE, _RESIDENT, _SWAP, _TABLES = b"VmSize:", b"VmRSS:", b"VmSwap:", b"VmPTE:"
"""The fields of `/proc/PID/status` (proc_pid_status(5)). A process without memory of its own has none of them."""

_MOST = 64 * 1024
"""The most of a file that is read: before these fields is the list of groups, which can be long."""

MOST_LOCKS = 10_000
"""So many locks of ranges of files may a run hold, at some 200 bytes each. A database holds a handful."""

_LOCK, _LONGEST_LOCK = b": POSIX ", 128
"""What a line of `/proc/locks` has in it (proc_locks(5)), and how long one is at most."""

MOST_MAPPINGS, BYTES_PER_MAPPING = 65_530, 256
"""How many mappings a process may have (vm.max_map_count, as shipped), and what the kernel keeps for each."""

_PAGE, _LONGEST_MAPPING = 4096, 256

FASTEST_GROWTH = 4 * 1024**3
"""Bytes per second that a script is taken to touch at most."""

SHORTEST_INTERVAL_S = 0.005
LONGEST_INTERVAL_S = 0.1


class Tree:
    """The processes of one PID namespace, seen through its init. Close it when the run is over."""

    def __init__(self, init: int) -> None:
        """Open the namespace's `/proc` and `/tmp`. Raises OSError if init is gone already."""
        self._proc = os.open(f"/proc/{init}/root/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._scratch = os.open(f"/proc/{init}/root/tmp", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            os.close(self._proc)
            raise

    def close(self) -> None:
        """Let go of the namespace."""
        os.close(self._proc)
        os.close(self._scratch)

    def processes(self) -> list[str]:
        """The pids in the namespace, init's among them, as the names of their directories."""
        with contextlib.suppress(OSError):
            return [name for name in os.listdir(self._proc) if name.isdigit()]
        return []

    def memory(self, limit: int) -> int:
        """Bytes of memory and swap in use: exact if above `limit`, else an upper bound."""
        processes = self.processes()
        most = sum(self._at_most(pid) for pid in processes)
        return most if most <= limit else sum(self._proportional(pid) for pid in processes)

    def files(self) -> int:
        """How many files and directories there are in scratch and `/tmp`."""
        facts = os.fstatvfs(self._scratch)
        return facts.f_files - facts.f_ffree

    def locks(self) -> int:
        """How many locks of ranges of files its processes hold, or at least that there are more than `MOST_LOCKS`.

        The namespace's `/proc` lists its own processes' alone. (Those of open file descriptions, which belong to no
        process, are not to be had: see `seccomp`.)
        """
        return self._read("locks", MOST_LOCKS * _LONGEST_LOCK).count(_LOCK)

    def _at_most(self, pid: str) -> int:
        """What one process can have in use: no mapping is smaller than a page, so its size bounds their number."""
        status = self._read(f"{pid}/status")
        mappings = min(_sum(status, _SIZE) // _PAGE, MOST_MAPPINGS)
        return _sum(status, _RESIDENT, _SWAP, _TABLES) + mappings * BYTES_PER_MAPPING

    def _proportional(self, pid: str) -> int:
        shares = _sum(self._read(f"{pid}/smaps_rollup"), b"Pss:", b"SwapPss:")
        mappings = self._read(f"{pid}/maps", MOST_MAPPINGS * _LONGEST_MAPPING).count(b"\n")
        return shares + _sum(self._read(f"{pid}/status"), _TABLES) + mappings * BYTES_PER_MAPPING

    def _read(self, path: str, most: int = _MOST) -> bytes:
        with (
            contextlib.suppress(OSError),
            open(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc), "rb") as file,
        ):
            return file.read(most)
        return b""


def _sum(text: bytes, *names: bytes) -> int:
    """The sum of these fields, which are in KiB there, in bytes; 0 for a process that ended meanwhile."""
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(names))


def next_look(used: int, limit: int) -> float:
    """Seconds until the tree should be looked at again: before it could have used up its headroom."""
    return min(max((limit - used) / FASTEST_GROWTH, SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S)
