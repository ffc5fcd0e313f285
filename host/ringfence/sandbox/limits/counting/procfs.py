r"""What the kernel prints of processes under `/proc`, read as bytes at known places. No I/O.

Threat: a script chooses some of that text itself (the name of a process, of a file that is mapped, of a mapping), and
would have it read as numbers. Mechanism: nothing is decoded; lines end at `\\n` alone, which the kernel escapes where
it prints what somebody chose (string_escape_mem, mangle_path); a field counts only by its exact name at the beginning
of a line, or by its place before the first chosen byte of it; and a number is digits, so that it is never negative.
Not covered: what the kernel does not print.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

KIB = 1024

_ANONYMOUS = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ .{4} [0-9a-f]+ 00:00 0 ", re.MULTILINE)
"""A mapping without a file: device and inode are 0, and stand before the name (proc_pid_maps(5))."""

_LOCKS = (b": POSIX ", b": FLOCK ", b": LEASE ")
"""How the kernel prints the locks that belong to a process; those of open file descriptions are OFDLCK."""


class UnknownFormat(ValueError):
    """The kernel prints something in another way than is known here."""


class Mappings(NamedTuple):
    """How many mappings a process has: without a file, and of one."""

    anonymous: int
    of_files: int


def kib(text: bytes, *names: bytes) -> int | None:
    """The sum of these fields of `NAME: 12 kB` each, in bytes; None if none of them is there.

    Raises:
        UnknownFormat: if one is not followed by a number.
    """
    lines = [(name, line) for name in names if (line := _line(text, name)) is not None]
    return sum(digits(line.split()[:1], name) for name, line in lines) * KIB if lines else None


def number(text: bytes, name: bytes) -> int | None:
    """The number in a field; None if it is not there. Raises UnknownFormat."""
    line = _line(text, name)
    return None if line is None else digits(line.split()[:1], name)


def last_number(text: bytes, name: bytes) -> int | None:
    """The last of several numbers in a field, as in `NSpid: 4711 12`; None if it is not there. Raises UnknownFormat."""
    line = _line(text, name)
    return None if line is None else digits(line.split()[-1:], name)


def _line(text: bytes, name: bytes) -> bytes | None:
    """What follows `NAME:` at the beginning of a line."""
    _, found, after = (b"\n" + text).partition(b"\n" + name + b":")
    return after.partition(b"\n")[0] if found else None


def digits(words: list[bytes], name: bytes) -> int:
    """The one word that the value of a field is, as a number. Raises UnknownFormat."""
    if len(words) != 1 or not words[0].isdigit():
        raise UnknownFormat(f"the field {name.decode()} has no number")
    return int(words[0])


def mappings(chunks: Iterable[bytes]) -> Iterator[Mappings]:
    """How many mappings there are in `maps` so far, after each chunk of it; the chunks are cut anywhere."""
    rest, anonymous, lines = b"", 0, 0
    for chunk in chunks:
        whole, end, rest = (rest + chunk).rpartition(b"\n")
        lines += whole.count(b"\n") + len(end)
        anonymous += sum(1 for _ in _ANONYMOUS.finditer(whole))
        yield Mappings(anonymous, lines - anonymous)


def locks(text: bytes) -> int:
    """How many locks of processes there are in `/proc/locks` (proc_locks(5)), which has no chosen text."""
    return sum(text.count(kind) for kind in _LOCKS)
