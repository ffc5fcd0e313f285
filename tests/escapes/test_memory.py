"""Too much memory, in one process or split over many, seen and unseen."""

from __future__ import annotations

import pytest
from ringfence.scripts import Stopped

from tests.escapes.conftest import Supervisor

MiB = 1024 * 1024
LIMIT = 64 * MiB
POLICY = {"resources": {"memoryBytes": LIMIT}}


def test_one_process_cannot_have_more(supervisor: Supervisor) -> None:
    result = supervisor.run("python", "x = bytearray(200 * 2**20); print('had it')", policy=POLICY)
    assert "had it" not in result.stdout
    assert "MemoryError" in result.stderr or result.stopped is Stopped.MEMORY


SPLIT = """
import os, time
for _ in range(12):
    if os.fork() == 0:
        block = bytearray(20 * 2**20)
        time.sleep(1000)
time.sleep(1000)
"""
NAMED = """
import ctypes
ctypes.CDLL(None).prctl(15, NAME)  # PR_SET_NAME; what is forked has it too
"""
WITHOUT_FIRST_THREAD = """
import ctypes, os, platform, threading, time
libc = ctypes.CDLL(None)
EXIT = {'x86_64': 60, 'aarch64': 93}[platform.machine()]  # Of this thread alone.
for _ in range(4):
    if os.fork() == 0:
        had = threading.Event()
        def take():
            block = bytearray(30 * 2**20)
            had.set()
            time.sleep(1000)
        threading.Thread(target=take).start()
        had.wait()
        libc.syscall(EXIT, 0)
time.sleep(1000)
"""
LEFT_TO_A_CHILD = """
import ctypes, os, time
libc = ctypes.CDLL(None)
stack = ctypes.create_string_buffer(1 << 16)
for _ in range(12):
    if os.fork() == 0:
        block = bytearray(20 * 2**20)
        top = ctypes.c_void_p(ctypes.addressof(stack) + len(stack) - 64)
        libc.clone(libc.pause, top, 0x100 | 17, None)  # CLONE_VM | SIGCHLD
        os._exit(0)
time.sleep(1000)
"""
OUTSIDE_OF_DATA = """
import ctypes, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype, size = ctypes.c_void_p, 20 << 20
for _ in range(12):
    block = libc.mmap(None, ctypes.c_size_t(size), 3, 0x22, -1, ctypes.c_long(0))
    ctypes.memset(block, 1, size)
    libc.mprotect(ctypes.c_void_p(block), ctypes.c_size_t(size), 1)
time.sleep(1000)
"""
HANDED_ON = """
import os, time
for _ in range(12):
    if os.fork() == 0:
        block = bytearray(20 * 2**20)
        while True:
            if os.fork():
                os._exit(0)
time.sleep(1000)
"""
MAPPED_FILES = """
import mmap, time
for name in range(4):
    with open(f'/dev/shm/{name}', 'wb+') as file:
        file.truncate(30 << 20)
        block = mmap.mmap(file.fileno(), 0)
        globals()[f'kept{name}'] = block
        for offset in range(0, len(block), 4096):
            block[offset] = 1
time.sleep(1000)
"""
PAGE_TABLES = """
import mmap, time
flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
block = mmap.mmap(-1, 1 << 38, flags=flags, prot=mmap.PROT_READ)
for offset in range(0, len(block), 1 << 21):
    block[offset]  # The one page of zeros, which costs nothing; the table that leads to it does.
time.sleep(1000)
"""


@pytest.mark.parametrize(
    "script",
    [SPLIT, WITHOUT_FIRST_THREAD, LEFT_TO_A_CHILD, OUTSIDE_OF_DATA, HANDED_ON, MAPPED_FILES, PAGE_TABLES],
    ids=[
        *("over processes", "first threads ended", "left to a child", "outside of RLIMIT_DATA", "handed on"),
        *("mapped files", "page tables"),
    ],
)
def test_the_whole_run_is_stopped(supervisor: Supervisor, script: str) -> None:
    result = supervisor.run("python", script, policy=POLICY, timeout_ms=60_000)
    assert result.stopped is Stopped.MEMORY
    assert result.exit_code == -9


STORIES = [b"\rVmRSS: -999999", b"\rVmRSS: x", b"\xff\xc2\x85\x1cPss: 0", b"\\n", b"\nVmSize: 1"]


@pytest.mark.parametrize("name", STORIES)
def test_no_name_of_a_process_makes_it_count_for_less(cold_supervisor: Supervisor, name: bytes) -> None:
    script = NAMED.replace("NAME", repr(name)) + SPLIT
    result = cold_supervisor.run("python", script, policy=POLICY, timeout_ms=15_000)
    assert result.stopped is Stopped.MEMORY


@pytest.mark.parametrize("name", STORIES)
def test_any_name_of_a_process_lets_it_run(cold_supervisor: Supervisor, name: bytes) -> None:
    script = NAMED.replace("NAME", repr(name)) + "import time; time.sleep(0.3); print('all fine')"
    assert cold_supervisor.run("python", script).stdout == "all fine\n"


def test_memory_that_a_vfork_lends_counts_once(supervisor: Supervisor) -> None:
    script = """
import ctypes, os
libc = ctypes.CDLL(None)
block = bytearray(36 * 2**20)
stack = ctypes.create_string_buffer(1 << 16)
top = ctypes.c_void_p(ctypes.addressof(stack) + len(stack) - 64)
child = libc.clone(libc.usleep, top, 0x100 | 17, ctypes.c_void_p(800_000))  # CLONE_VM | SIGCHLD
os.waitpid(child, 0)
print('all fine')
"""
    result = supervisor.run("python", script, policy=POLICY)
    assert (result.stopped, result.stdout) == (None, "all fine\n"), (result.exit_code, result.stderr)


def test_memory_that_is_shared_by_forking_counts_once(supervisor: Supervisor) -> None:
    script = """
import os, time
block = bytearray(30 * 2**20)
for _ in range(10):
    if os.fork() == 0:
        time.sleep(0.8)
        os._exit(0)
for _ in range(10):
    os.wait()
print('all fine')
"""
    assert supervisor.run("python", script, policy=POLICY).stdout == "all fine\n"


def test_shared_memory_is_bounded_with_scratch(supervisor: Supervisor) -> None:
    script = """
try:
    with open('/dev/shm/block', 'wb') as file:
        for _ in range(64):
            file.write(bytes(2**20))
    print('had it')
except OSError as error:
    print(error.strerror)
"""
    policy = {"resources": {"maxScratchBytes": 8 * MiB}}
    assert supervisor.run("python", script, policy=policy).stdout == "No space left on device\n"


WITHOUT_A_PROCESS = """
import ctypes, mmap, os, platform, socket
libc = ctypes.CDLL(None, use_errno=True)
def attempt(what, attempted):
    try:
        attempted()
        print(what)
    except OSError:
        pass
attempt('memfd', lambda: os.memfd_create('x'))
if libc.shmget(0, 1 << 20, 0o1600) >= 0:
    print('segment')
# Pages of these stay when whoever touched them has ended, or given them back.
attempt('shared and anonymous', lambda: mmap.mmap(-1, 1 << 20))
attempt('shared zeros', lambda: mmap.mmap(os.open('/dev/zero', os.O_RDWR), 1 << 20))
libc.mmap.restype, libc.mmap.argtypes = ctypes.c_long, [ctypes.c_long] * 6
for flags in (0x40022, 0x40021, 1 << 32 | 0x40022):  # MAP_HUGETLB
    if libc.mmap(0, 1 << 21, 3, flags, -1, 0) != -1 or ctypes.get_errno() != 1:
        print('huge pages of the host', ctypes.get_errno())
# A slot of a pipe keeps the whole huge page that a piece of it was taken from.
reading, writing = os.pipe()
piece = (ctypes.c_long * 2)(ctypes.addressof(ctypes.create_string_buffer(64)), 64)
if libc.vmsplice(writing, piece, 1, 0) >= 0:
    print('pages in a pipe')
# A byte of a page keeps the page, also when its file has been truncated.
file = os.open('file', os.O_RDWR | os.O_CREAT)
os.write(file, bytes(4096))
ends = socket.socketpair()
attempt('a page of a file in a pipe', lambda: os.splice(file, writing, 1, 0))
attempt('a page of a file in a socket', lambda: os.sendfile(ends[0].fileno(), file, 0, 1))
# A huge page of which all but a piece was given back is kept whole.
HUGE, MADV_HUGEPAGE, MADV_COLLAPSE, PR_SET_CHILD_SUBREAPER, PR_SET_THP_DISABLE = 1 << 21, 14, 25, 36, 41
if libc.prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0) == 0:
    print('huge pages again')
libc.madvise.argtypes = [ctypes.c_long, ctypes.c_size_t, ctypes.c_int]
block = libc.mmap(0, 2 * HUGE, 3, 0x22, -1, 0)
block += -block % HUGE
libc.madvise(block, HUGE, MADV_HUGEPAGE)
ctypes.memset(block, 1, 1)
if any(line.split()[1] != '0' for line in open('/proc/self/smaps') if line.startswith('AnonHugePages')):
    print('a huge page')
if libc.madvise(block, HUGE, MADV_COLLAPSE) == 0:
    print('a huge page when asked for')
# The kernel tells of no lock whose process has ended. Nor of who forked whom, if another adopts.
CLONE, CLONE_FILES = {'x86_64': 56, 'aarch64': 220}[platform.machine()], 0x400
if (child := libc.syscall(CLONE, CLONE_FILES | 17, 0, 0, 0, 0)) == 0:
    os._exit(0)
if child > 0:
    print('locks that outlive their process')
if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0:
    print('orphans')
"""


def test_memory_without_a_process_cannot_be_made(supervisor: Supervisor) -> None:
    result = supervisor.run("python", WITHOUT_A_PROCESS)
    assert (result.stdout, result.stderr) == ("", "")


def test_zeros_can_still_be_read(supervisor: Supervisor) -> None:
    assert supervisor.run("shell", "head -c 100 /dev/zero | tr '\\0' x | wc -c").stdout.strip() == "100"


def test_private_memory_is_had_as_ever(supervisor: Supervisor) -> None:
    script = "import mmap\nmmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\nprint('had it')"
    assert supervisor.run("python", script).stdout == "had it\n"


LOCKS = """
import fcntl, os, struct
def lock(file, command):
    for number in range(4000, 0, -1):
        fcntl.fcntl(file, command, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 2 * number, 1, 0))
    print('held', flush=True)
for name in range(200):
    globals()[f'kept{name}'] = open(f'/tmp/{name}', 'w')
    lock(globals()[f'kept{name}'], COMMAND)
"""


def test_locks_which_are_memory_of_the_kernels_are_counted(supervisor: Supervisor) -> None:
    """Nothing else bounds them: a gigabyte took a script some seconds."""
    result = supervisor.run("python", LOCKS.replace("COMMAND", "fcntl.F_SETLK"), timeout_ms=60_000)
    assert result.stopped is Stopped.MEMORY, result.stderr
    assert result.stdout.count("held") < 200


def test_locks_that_nobody_could_count_cannot_be_had(supervisor: Supervisor) -> None:
    result = supervisor.run("python", LOCKS.replace("COMMAND", "37"))  # F_OFD_SETLK
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Invalid argument" in result.stderr


def test_a_database_has_the_locks_that_it_needs(supervisor: Supervisor) -> None:
    script = """
import sqlite3
with sqlite3.connect('/tmp/base') as base:
    base.execute('pragma journal_mode=wal')
    base.execute('create table t (n)')
    base.executemany('insert into t values (?)', ((n,) for n in range(1000)))
print(sqlite3.connect('/tmp/base').execute('select sum(n) from t').fetchone()[0])
"""
    assert supervisor.run("python", script).stdout == "499500\n"


MAPPINGS = """
import ctypes, os, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
for _ in range(8):
    if os.fork() == 0:
        base = libc.mmap(None, ctypes.c_size_t(4096 * 65000), 0, 0x22, -1, ctypes.c_long(0))
        for page in range(0, 65000, 2):
            libc.mprotect(ctypes.c_void_p(base + 4096 * page), ctypes.c_size_t(4096), 1)
        time.sleep(1000)
time.sleep(1000)
"""


def test_mappings_of_nothing_count_for_what_the_kernel_keeps_of_them(supervisor: Supervisor) -> None:
    """Each is a page that is never touched: no limit of a process is reached, and 16 MiB of the kernel's are used."""
    result = supervisor.run("python", MAPPINGS, policy=POLICY, timeout_ms=60_000)
    assert result.stopped is Stopped.MEMORY


CHAIN_OF_FORKS = """
import ctypes, os, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
base = libc.mmap(None, ctypes.c_size_t(8192 * 1000), 3, 0x22, -1, ctypes.c_long(0))
for place in range(base, base + 8192 * 1000, 8192):
    libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(4096), 1)
    ctypes.memset(place + 4096, 1, 1)
for _ in range(40):
    if os.fork():
        break
time.sleep(1000)
"""


def test_a_chain_of_forks_counts_for_what_the_kernel_keeps_of_it(cold_supervisor: Supervisor) -> None:
    """A link for each mapping and each ancestor: gigabytes, if there are as many of both as may be."""
    result = cold_supervisor.run("python", CHAIN_OF_FORKS, policy=POLICY, timeout_ms=15_000)
    assert result.stopped is Stopped.MEMORY


FILES_HELD_BY_MAPPINGS = """
import ctypes, os, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
open('file', 'wb').write(bytes(4096))
for _ in range(4):
    if os.fork() == 0:
        for _ in range(60_000):
            file = os.open('file', os.O_RDONLY)
            libc.mmap(None, ctypes.c_size_t(4096), 1, 2, file, ctypes.c_long(0))  # MAP_PRIVATE
            os.close(file)
        time.sleep(1000)
time.sleep(1000)
"""


def test_files_that_mappings_hold_open_count(cold_supervisor: Supervisor) -> None:
    """No limit on descriptors sees them."""
    result = cold_supervisor.run("python", FILES_HELD_BY_MAPPINGS, policy=POLICY, timeout_ms=20_000)
    assert result.stopped is Stopped.MEMORY
