"""The limits that the kernel keeps per process, as each bootstrap sets them on itself, inside and for good.

They are lowered hard, and nothing in the sandbox has the capability to raise them again. `RLIMIT_NPROC` is
counted per user namespace (Linux 5.14 and newer), so that set inside it is a cap on the run's own processes
and threads, and two runs with the same uid do not disturb each other.

What a program reserves is not what it uses. `RLIMIT_DATA` counts every private writable mapping, touched or not
(getrlimit(2)): stacks of threads, the range for code of V8, the first heap of a Java machine. What is touched is held
for the run as a whole (by its cgroup, or by `counting`); so beside the memory that a run may use, a process may reserve
`reservable` more. `RLIMIT_AS` is not set: it counts what cannot even be accessed, of which such programs reserve
terabytes. Where the kernel takes what is reserved for used (`vm.overcommit_memory` is 2, proc_sys_vm(5)), it is.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
from collections.abc import Mapping
from types import MappingProxyType

from ringfence.sandbox.policy import LARGEST_LIMIT, Resources

SHELL_BLOCK = 512
"""The unit of `ulimit -f` in a POSIX shell, in bytes."""

KIB = 1024
MIB = 1024 * KIB

STACK = 8 * MIB
"""How large the stack of a thread is, unless its program chooses (pthread_create(3), and RLIMIT_STACK as shipped)."""

PART_OF_THE_MACHINE = 16
"""This part of the machine's memory may a process reserve besides: the first heap of a Java machine is a sixty-fourth,
and what it keeps for the largest, of a quarter, is as much again."""

LEAST_RESERVABLE = 1024 * MIB
"""And at least so much: V8's range for code is 512 MiB."""

OVERCOMMIT, NEVER = "/proc/sys/vm/overcommit_memory", b"2"


def raise_open_files() -> None:
    """Let this process have as many descriptors open as it may: a supervisor holds a dozen for each run."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems have a hard limit that is none, and refuse that as a soft one.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def process_limits(resources: Resources) -> Mapping[str, tuple[int, int]]:
    """The soft and hard limit for each name of Python's `resource` module.

    CPU time ends with SIGXCPU, which says what happened, and a second later with SIGKILL, which cannot be
    caught. The process cap has room for the namespace's own init. Where this process itself is limited
    harder, that holds: a child cannot have more. (No core is dumped: see `spawning.main.leave_no_core`.)
    """
    return _limits(resources, reservations_are_use())


@functools.lru_cache(maxsize=64)
def _limits(resources: Resources, reserved_is_used: bool) -> Mapping[str, tuple[int, int]]:
    cpu, processes = resources.cpu_seconds, resources.max_processes + 1
    data = resources.memory_bytes
    if not reserved_is_used:
        data = min(data + reservable(resources, _memory_of_the_machine()), LARGEST_LIMIT)
    wanted = {
        "RLIMIT_CPU": (cpu, cpu + 1),
        "RLIMIT_DATA": (data, data),
        "RLIMIT_FSIZE": (resources.max_file_size_bytes, resources.max_file_size_bytes),
        "RLIMIT_NOFILE": (resources.max_open_files, resources.max_open_files),
        "RLIMIT_NPROC": (processes, processes),
    }
    return MappingProxyType({name: _within(name, *values) for name, values in wanted.items()})


def reservable(resources: Resources, memory_of_the_machine: int) -> int:
    """How many bytes a process may reserve beyond what its run may use."""
    others = max(memory_of_the_machine // PART_OF_THE_MACHINE, LEAST_RESERVABLE)
    return resources.max_processes * STACK + others


def reservations_are_use() -> bool:
    """Whether the kernel takes what is reserved from what the whole machine may use."""
    with contextlib.suppress(OSError):
        return os.pread(_overcommit(OVERCOMMIT), 16, 0).strip() == NEVER
    return False


@functools.cache
def _overcommit(path: str) -> int:
    """A descriptor of the kernel's setting, kept for the life of the process: every run asks. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


@functools.cache
def _memory_of_the_machine() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _within(name: str, soft: int, hard: int) -> tuple[int, int]:
    """The two, or the hard limit of this process where that is lower."""
    ceiling = _ceiling(name)
    return (soft, hard) if ceiling == resource.RLIM_INFINITY else (min(soft, ceiling), min(hard, ceiling))


@functools.cache
def _ceiling(name: str) -> int:
    """The hard limit of this process. Runs have theirs from a spawner, which had it from us when it was started."""
    return resource.getrlimit(getattr(resource, name))[1]


def shell_limits(resources: Resources) -> str:
    """Shell text that sets the same limits, or ends with 125. Sizes are rounded up to the shell's units."""
    return _shell_text(resources, reservations_are_use())


@functools.lru_cache(maxsize=64)
def _shell_text(resources: Resources, reserved_is_used: bool) -> str:
    limits = _limits(resources, reserved_is_used)
    (cpu, cpu_hard), (_, processes) = limits["RLIMIT_CPU"], limits["RLIMIT_NPROC"]
    settings = [
        f"ulimit -St {cpu}",
        f"ulimit -Ht {cpu_hard}",
        f"ulimit -d {_blocks(limits['RLIMIT_DATA'][1], KIB)}",
        f"ulimit -f {_blocks(limits['RLIMIT_FSIZE'][1], SHELL_BLOCK)}",
        f"ulimit -n {limits['RLIMIT_NOFILE'][1]}",
        # The process cap is -p in dash and busybox, -u in bash, where -p is something that cannot be set.
        f"{{ ulimit -p {processes} 2>/dev/null || ulimit -u {processes}; }}",
    ]
    return " && ".join(settings) + " || exit 125; "


def _blocks(value: int, unit: int) -> int:
    """How many whole units hold `value`."""
    return -(-value // unit)
