"""How a run's memory is summed: over a directory that is laid out as `/proc` is.

What scripts do to evade that is in `tests/escapes/test_memory.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from ringfence.sandbox.limits.counting import buffers, mapped, tree
from ringfence.sandbox.limits.counting import namespace as namespaces
from ringfence.sandbox.limits.counting.descriptors import Descriptors
from ringfence.sandbox.limits.counting.namespace import Namespace, telling

from tests.primitives import requires

KiB = 1024


def process(
    proc: Path,
    pid: int | str,
    *,
    size: int = 0,
    rss: int = 0,
    swap: int = 0,
    tables: int = 0,
    pss: int = 0,
    parent: int = 1,
    anonymous: int = 0,
) -> None:
    """A process with so much memory, in KiB; half of its share is in swap. It has no mappings."""
    (proc / str(pid)).mkdir()
    groups = " ".join(map(str, range(10_000)))
    (proc / str(pid) / "status").write_text(
        f"Name:\tx\nPPid:\t{parent}\nGroups:\t{groups}\nVmPeak:\t 9999 kB\nVmSize:\t {size} kB\nVmRSS:\t {rss} kB\n"
        f"RssAnon:\t {anonymous} kB\n"
        f"VmPTE:\t {tables} kB\nVmSwap:\t {swap} kB\n"
    )
    (proc / str(pid) / "smaps_rollup").write_text(
        f"0-1 ---p 00000000 00:00 0 [rollup]\nRss: 9999 kB\nPss:  {pss // 2} kB\n"
        f"Pss_Anon: 5 kB\nSwapPss:  {pss // 2} kB\n"
    )
    (proc / str(pid) / "maps").touch()
    (proc / str(pid) / "task").mkdir()


def ended(proc: Path, pid: int, *threads: int) -> None:
    """A process whose first thread has ended, with others."""
    (proc / str(pid) / "task").mkdir(parents=True)
    for each in (Path(str(pid)), *(Path(str(pid), "task", str(thread)) for thread in (pid, *threads))):
        (proc / each).mkdir(exist_ok=True)
        (proc / each / "status").write_text("Name:\tx\nState:\tZ (zombie)\nThreads:\t2\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "self").mkdir()
    return tmp_path


def memory(proc: Path, limit: int) -> int:
    directory = os.open(proc, os.O_RDONLY | os.O_DIRECTORY)
    try:
        namespace = Namespace(directory, init=-1)
        with telling("it"):
            return tree.in_use(namespace, Descriptors(namespace, own_network=False), limit).bytes
    finally:
        os.close(directory)


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
    ended(proc, 2)
    assert memory(proc, 1) == 0


def test_a_process_whose_first_thread_has_ended_uses_what_another_shows(proc: Path) -> None:
    ended(proc, 2, 3, 4)
    process(proc, 4, rss=1000, pss=700, tables=10)
    (proc / "2" / "task" / "4" / "status").write_text((proc / "4" / "status").read_text())
    (proc / "4").rename(proc / "hidden")  # As a thread's directory is: not listed.
    assert memory(proc, 2**20) == 1010 * KiB


def test_what_may_not_be_read_counts_by_its_upper_bound(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process(proc, 1, rss=1000, pss=300)
    process(proc, 2, rss=1000, pss=300)
    really = os.open

    def refused(path: str, flags: int, dir_fd: int | None = None) -> int:
        if path in ("2/smaps_rollup", "2/maps"):
            raise PermissionError
        return really(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refused)
    assert memory(proc, 1200 * KiB) == 1300 * KiB


def test_what_cannot_be_told_in_time_counts_by_its_upper_bound(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pid in (1, 2):
        process(proc, pid, rss=1000, pss=500)
    monkeypatch.setattr(tree, "EXACT_CPU_S", 0.0)
    monkeypatch.setattr(tree, "EXACT_CPU_S_PER_GIB", 0.0)
    assert memory(proc, 1500 * KiB) == 2000 * KiB
    monkeypatch.setattr(tree, "CHEAP_CPU_S", 0.0)
    with pytest.raises(tree.NotSeen, match="takes more than"):
        memory(proc, 1500 * KiB)


def test_what_has_ended_uses_nothing(proc: Path) -> None:
    assert memory(proc, 1) == 0


def test_what_cannot_be_understood_fails_the_look(proc: Path) -> None:
    process(proc, 1)
    (proc / "1" / "status").write_text("Name:\tx\nVmSize:\t many kB\n")
    with pytest.raises(tree.NotSeen, match="VmSize"):
        memory(proc, 1)


def test_what_the_kernel_keeps_of_mappings_counts_by_their_number(proc: Path) -> None:
    process(proc, 1, size=400_000, rss=1000, pss=1000)
    (proc / "1" / "maps").write_text("0-1 ---p 0 00:00 0 \n" * 3000 + "0-1 ---p 0 00:20 7  /tmp/x\n" * 5000)
    most = 1000 * KiB + 65_530 * (mapped.BYTES_PER_FILE_MAPPING + mapped.BYTES_PER_LINK)
    assert memory(proc, 2**30) == most
    counted = 3000 * mapped.BYTES_PER_MAPPING + 5000 * mapped.BYTES_PER_FILE_MAPPING
    assert memory(proc, most - 1) == 1000 * KiB + counted + 8000 * mapped.BYTES_PER_LINK


@pytest.mark.parametrize(
    ("parents", "generations"),
    [
        ({2: 1}, 1),
        ({2: 1, 3: 2, 4: 3, 5: 2}, 1 + 2 + 3 + 2),
        # Of whose parent has ended, nobody knows how many ancestors it has.
        ({2: 1, 3: 2, 4: 1, 5: 4, 6: 99}, 1 + 2 + 5 + 6 + 5),
        # As it may look while pids become others'.
        ({2: 1, 3: 4, 4: 3}, 1 + 3 + 4),
    ],
    ids=["first", "children", "orphans", "circle"],
)
def test_mappings_cost_more_with_each_generation_of_forks(
    proc: Path, parents: dict[int, int], generations: int
) -> None:
    for pid, parent in parents.items():
        process(proc, pid, size=400_000, parent=parent)
        (proc / str(pid) / "maps").write_text("0-1 ---p 0 00:00 0 \n" * 1000)
    total = 1000 * (len(parents) * mapped.BYTES_PER_MAPPING + generations * mapped.BYTES_PER_LINK)
    assert memory(proc, total) == total


def test_who_ends_while_shares_are_read_counts_as_it_was(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that lives for a moment halves what its parent shows; 4 was a zombie before."""
    process(proc, 2, rss=1000, pss=100)
    process(proc, 3, rss=700, pss=100)
    ended(proc, 4)
    really = os.open

    def ends(path: str, flags: int, dir_fd: int | None = None) -> int:
        if path == "3/smaps_rollup":
            raise ProcessLookupError
        return really(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", ends)
    assert memory(proc, 1600 * KiB) == 800 * KiB


def test_no_process_has_less_than_its_own_pages(proc: Path) -> None:
    for pid in (2, 3):
        process(proc, pid, rss=1000, pss=100, anonymous=700)
    assert memory(proc, 1600 * KiB) == 700 * KiB


@pytest.mark.parametrize(("most_s", "counted"), [(0.0, 2000), (60.0, 1000)])
def test_a_look_that_is_held_up_counts_by_the_upper_bound(
    proc: Path, monkeypatch: pytest.MonkeyPatch, most_s: float, counted: int
) -> None:
    """A process that forks holds the lock of its memory meanwhile."""
    for pid in (1, 2):
        process(proc, pid, rss=1000, pss=500)
    really = os.open

    def held_up(path: str, flags: int, dir_fd: int | None = None) -> int:
        if path == "1/smaps_rollup":
            threading.Event().wait(0.1)
        return really(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", held_up)
    monkeypatch.setattr(tree, "HELD_UP_S", most_s)
    monkeypatch.setattr(namespaces, "HELD_UP_PER_CPU_S", 0.0)
    assert memory(proc, 1500 * KiB) == counted * KiB


CLOSED = """
import socket
from ringfence.sandbox.limits.counting import buffers
server = socket.create_server(("127.0.0.1", 0), backlog=50)
for _ in range(50):
    client = socket.create_connection(server.getsockname())
    served, _ = server.accept()
    client.close()
    assert served.recv(1) == b""
    served.close()
told = [open(f"/proc/self/net/{name}", "rb").read() for name in ("sockstat", "sockstat6")]
print(buffers.Sockets.told(*told).closed)
"""


@requires("user namespaces")
def test_connections_that_are_closed_and_still_remembered_count() -> None:
    """There can be a hundred thousand of them, and none has a descriptor or is a socket."""
    inside = [
        "unshare",
        "--user",
        "--map-root-user",
        "--net",
        "sh",
        "-c",
        'ip link set lo up; exec "$@"',
        "sh",
    ]
    told = subprocess.run([*inside, sys.executable, "-c", CLOSED], capture_output=True, text=True, check=True)
    # The last of them may be told of a moment later.
    assert 40 <= int(told.stdout) <= 50
    closed = buffers.Sockets(closed=100_000)
    assert buffers.bound(0, closed).bytes == 100_000 * 512
    assert buffers.Tally().held(buffers.Tally(), closed, list).bytes == 100_000 * 512
