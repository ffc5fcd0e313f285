"""The machines that a filter is written for, and the numbers of their system calls."""

from __future__ import annotations

import enum
from typing import NamedTuple


class UnsupportedArchitecture(RuntimeError):
    """No filter can be made for this machine: numbers differ between architectures and are never guessed."""

    def __init__(self, machine: str) -> None:
        known = ", ".join(architecture.machine for architecture in Architecture)
        super().__init__(f"there is no syscall filter for {machine!r} machines; there is one for: {known}")
        self.machine = machine


class Architecture(enum.Enum):
    """The kernel's interfaces that a filter is written for.

    `machine` is `uname -m`, `audit` is AUDIT_ARCH_* of linux/audit.h, and `highest_old` is the last number before 424,
    where the numbers begin that are the same everywhere (`uretprobe`; `kexec_file_load`).
    """

    X86_64 = ("x86_64", 0xC000003E, 335)
    AARCH64 = ("aarch64", 0xC00000B7, 294)

    def __init__(self, machine: str, audit: int, highest_old: int) -> None:
        self.machine = machine
        self.audit = audit
        self.highest_old = highest_old

    @classmethod
    def of(cls, machine: str) -> Architecture:
        """The one of a machine as `platform.machine()` names it.

        Raises:
            UnsupportedArchitecture: if there is none.
        """
        for architecture in cls:
            if architecture.machine == machine:
                return architecture
        raise UnsupportedArchitecture(machine)

    def knows(self, number: int) -> bool:
        """Whether the number is a call's that was there to be judged when this was written."""
        return number <= self.highest_old or FIRST_COMMON <= number <= HIGHEST_KNOWN


class Syscall(NamedTuple):
    """A call and its numbers; None where an architecture has no such call.

    Source: arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
    """

    name: str
    x86_64: int | None
    aarch64: int | None

    def number(self, architecture: Architecture) -> int | None:
        """The call's number there, if there is one."""
        return self.x86_64 if architecture is Architecture.X86_64 else self.aarch64


FIRST_COMMON = 424
"""`pidfd_send_signal`: numbers from here on are the same everywhere."""

HIGHEST_KNOWN = 469
"""`file_setattr` of Linux 6.17."""

X32_BIT = 0x4000_0000
"""A number with this bit is a call of the x32 interface, in a table of its own; above every known number."""
