"""What the kernel prints is read at known places, whatever a script has put between them."""

from __future__ import annotations

import pytest
from ringfence.sandbox.limits.counting import procfs
from ringfence.sandbox.limits.counting.procfs import Mappings

STATUS = (
    b"Name:\t%b\nUmask:\t0022\nGroups:\t1 2 3\nNSpid:\t4711\t12\n"
    b"VmRSS:\t    1000 kB\nVmSwap:\t      24 kB\nThreads:\t1\n"
)

NAMES = [
    b"\rVmRSS: -999999",
    b"\rVmRSS: x",
    b"\x0bVmRSS: 1 kB",
    b"\x0c\x1c\x1d\x1e\x85VmRSS: 1",
    b"VmRSS: 1 kB",
    b"\\nVmRSS:\\t1 kB",
    b"\xff\xfe\xc2\x85VmRSS",
    b"",
    b"NSpid:\t1",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_process_changes_no_field(name: bytes) -> None:
    status = STATUS % name
    assert procfs.kib(status, b"VmRSS", b"VmSwap") == 1024 * 1024
    assert procfs.last_number(status, b"NSpid") == 12
    assert procfs.kib(status, b"VmPTE") is None


def test_a_field_is_named_exactly() -> None:
    assert procfs.kib(b"Pss_Anon:  5 kB\nSwapPss:  7 kB\nPss:  3 kB\n", b"Pss") == 3 * 1024


@pytest.mark.parametrize("value", [b"-5 kB", b"", b"x kB", b"+5 kB", b"0x5 kB"])
def test_what_is_no_number_is_no_number_that_counts(value: bytes) -> None:
    with pytest.raises(procfs.UnknownFormat):
        procfs.kib(b"VmRSS:\t" + value + b"\n", b"VmRSS")


MAPS = (
    b"55d0c0a00000-55d0c0a01000 r-xp 00000000 fe:00 1234                       /usr/bin/x\n"
    b"7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n"
    b"7f0000002000-7f0000003000 rw-p 00000000 00:00 0                          [anon:heap]\n"
    b"7f0000004000-7f0000005000 r--s 00000000 00:21 9                          %b\n"
    b"7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]\n"
)
FILES = [
    b"/tmp/a",
    b"/tmp/\\0121-2 rw-p 00000000 00:00 0 ",
    b"/tmp/\r1-2 rw-p 00000000 00:00 0 \r",
    b"/tmp/x rw-p 00000000 00:00 0 ",
    b"/tmp/\x85\xff\\",
    b"/tmp/" + b"x" * 4000,
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_mappings_of_files_are_told_from_others_by_their_inode(name: bytes, size: int) -> None:
    text = MAPS % name
    chunks = [text[start : start + size] for start in range(0, len(text), size)]
    assert list(procfs.mappings(chunks))[-1] == Mappings(anonymous=3, of_files=2)


def test_locks_that_belong_to_processes_are_counted_with_those_who_wait_for_them_apart() -> None:
    text = (
        b"1: POSIX  ADVISORY  WRITE 12 00:21:5 0 0\n"
        b"1: -> POSIX  ADVISORY  WRITE 13 00:21:5 0 0\n"
        b"2: FLOCK  ADVISORY  WRITE 12 00:21:6 0 EOF\n"
        b"3: LEASE  ACTIVE    WRITE 12 00:21:7 0 EOF\n"
        b"4: OFDLCK ADVISORY  WRITE -1 00:21:8 0 0\n"
    )
    assert procfs.locks(text) == 3
