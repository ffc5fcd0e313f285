"""The system calls that a script may not make: a seccomp filter, assembled here and loaded before a script runs.

Threat: a hostile script attacks the kernel itself, through calls that ordinary programs hardly make and that have been
the way out of many a sandbox; uses them to rebuild a power that the other layers took away (a new user namespace gives
back every capability over what is made in it); changes how other processes of its uid are scheduled and limited, its
namespace's init among them; learns what others do with files that it may read; or fills the host with memory that the
kernel keeps and nobody counts.

Mechanism: a classic BPF program that the kernel runs before every call, loaded with `no_new_privs` and inherited by
every descendant. Every run has the same one. It refuses by name (`calls`, `judged`), and what has no name here is
absent when its number was not known, so that a call that a future kernel adds is absent until it has been judged.

What it does not cover: whatever the calls that are allowed can do (open, connect, ioctl on an own descriptor: the other
layers' part), what a pointer points to (a filter cannot look; hence `clone3` is absent, so that libraries fall back on
`clone`, whose flags can be seen), and bugs in the calls that remain.
"""

from __future__ import annotations

from ringfence.sandbox.filters.seccomp.architecture import Architecture, Syscall, UnsupportedArchitecture
from ringfence.sandbox.filters.seccomp.program import program, syscall_filter, unisolated_filter

__all__ = [
    "Architecture",
    "Syscall",
    "UnsupportedArchitecture",
    "program",
    "syscall_filter",
    "unisolated_filter",
]
