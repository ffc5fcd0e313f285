"""How a run's memory is summed: over a directory that is laid out as `/proc` is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ringfence.sandbox import tree

KiB = 1024


def process(proc: Path, pid: int, *, rss: int = 0, swap: int = 0, tables: int = 0, pss: int = 0) -> None:
    """A process with so much memory, in KiB; half of its share is in swap."""
    (proc / str(pid)).mkdir()
    groups = " ".join(map(str, range(10_000)))
    (proc / str(pid) / "status").write_text(
        f"Name:\tx\nGroups:\t{groups}\nVmPeak:\t 9999 kB\nVmRSS:\t {rss} kB\n"
        f"VmPTE:\t {tables} kB\nVmSwap:\t {swap} kB\n"
    )
    (proc / str(pid) / "smaps_rollup").write_text(
        f"0-1 ---p 00000000 00:00 0 [rollup]\nRss: 9999 kB\nPss:  {pss // 2} kB\n"
        f"Pss_Anon: 5 kB\nSwapPss:  {pss // 2} kB\n"
    )


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "self").mkdir()
    return tmp_path


def memory(proc: Path, limit: int) -> int:
    looked_at = tree.Tree.__new__(tree.Tree)
    looked_at._proc = os.open(proc, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return looked_at.memory(limit)
    finally:
        os.close(looked_at._proc)


def test_what_was_swapped_out_and_page_tables_count_like_resident_pages(proc: Path) -> None:
    process(proc, 1, rss=10, swap=200, tables=3000)
    process(proc, 2, rss=40_000)
    assert memory(proc, 2**30) == 43_210 * KiB


def test_above_the_limit_shared_pages_count_once_and_page_tables_fully(proc: Path) -> None:
    for pid in (1, 2):
        process(proc, pid, rss=1000, tables=10, pss=600)
    assert memory(proc, 1500 * KiB) == 1220 * KiB


def test_a_process_that_is_gone_or_has_no_memory_of_its_own_uses_nothing(proc: Path) -> None:
    (proc / "1").mkdir()
    (proc / "2").mkdir()
    (proc / "2" / "status").write_text("Name:\tkthread\n")
    assert memory(proc, 1) == 0


def test_what_the_kernel_keeps_of_mappings_counts_by_their_number(proc: Path) -> None:
    process(proc, 1, rss=1000, pss=1000)
    with (proc / "1" / "status").open("a") as status:
        status.write("VmSize:\t 400000 kB\n")
    (proc / "1" / "maps").write_text("0-1 ---p 0 00:00 0\n" * 3000)
    assert memory(proc, 2**30) == 1000 * KiB + 65_530 * tree.BYTES_PER_MAPPING
    assert memory(proc, 2000 * KiB) == 1000 * KiB + 3000 * tree.BYTES_PER_MAPPING
