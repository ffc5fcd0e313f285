"""Reserved address space is not used memory: what programs reserve lives, and what they touch is held all the same."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from ringfence.sandbox.limits import per_process
from ringfence.sandbox.policy import Resources
from ringfence.scripts import Stopped

from tests.escapes.conftest import Supervisor, needs_node
from tests.primitives import deno, has, requires

MiB = 1024 * 1024

THREADS = """
import threading
gate = threading.Event()
threads = [threading.Thread(target=gate.wait) for _ in range(WANTED)]
for thread in threads:
    thread.start()
print(threading.active_count())
gate.set()
"""


@pytest.mark.parametrize("wanted", [64, 250])
def test_as_many_threads_as_processes_are_allowed_can_be_started(
    cold_supervisor: Supervisor, wanted: int
) -> None:
    result = cold_supervisor.run("python", THREADS.replace("WANTED", str(wanted)))
    assert result.stdout == f"{wanted + 1}\n", result.stderr


RESERVED = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_long
NONE, RW, RWX = 0, 3, 7
PRIVATE, NORESERVE = 0x22, 0x4022  # Both anonymous.
def mapped(what, size, protection, flags):
    if libc.mmap(None, ctypes.c_size_t(size), protection, flags, -1, ctypes.c_long(0)) == -1:
        print(what, ctypes.get_errno())
mapped('a cage of V8', 1 << 40, NONE, NORESERVE)
mapped('memory of WebAssembly, with its guards', 10 << 30, NONE, NORESERVE)
mapped('the range for code of Deno', 512 << 20, RWX, NORESERVE)
mapped('a heap of a Java machine', 16 << 30, NONE, NORESERVE)
mapped('what it begins with', 384 << 20, RW, PRIVATE)
for _ in range(8):
    mapped('arenas of Go', 64 << 20, RW, PRIVATE)
print('all fine')
"""


def test_what_machines_of_languages_reserve_can_be_reserved(cold_supervisor: Supervisor) -> None:
    assert cold_supervisor.run("python", RESERVED).stdout == "all fine\n"


WORKERS = """
import { Worker } from 'node:worker_threads';
const text = `
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536 });
    require('node:worker_threads').parentPort.postMessage(memory.buffer.byteLength);`;
const answers = [...Array(8)].map(() => new Promise((resolve, reject) => {
    new Worker(text, { eval: true }).on('message', resolve).on('error', reject);
}));
console.log((await Promise.all(answers)).length);
"""


@needs_node
def test_node_starts_worker_threads_with_memory_of_webassembly(cold_supervisor: Supervisor) -> None:
    result = cold_supervisor.run("esm", WORKERS)
    assert result.stdout == "8\n", (result.stopped, result.stderr)


JAVA = """
cat >H.java <<'END'
public class H {
    public static void main(String[] arguments) throws Exception {
        Thread[] threads = new Thread[32];
        for (int i = 0; i < threads.length; i++) (threads[i] = new Thread(() -> {})).start();
        for (Thread thread : threads) thread.join();
        javax.net.ssl.SSLContext.getDefault();
        System.out.println("from Java");
    }
}
END
java H.java
"""
GO = """
cat >h.go <<'END'
package main
import "fmt"
func main() { done := make(chan int); for i := 0; i < 100; i++ { go func() { done <- 1 }() }
    for i := 0; i < 100; i++ { <-done }; fmt.Println("from Go") }
END
GOCACHE=$PWD/cache go run h.go
"""


def where(primitive: str) -> pytest.MarkDecorator:
    """Only where it is installed: a package of hundreds of megabytes is asked of nobody."""
    return pytest.mark.skipif(not has(primitive), reason=f"{primitive} is not installed")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param(JAVA, "from Java\n", marks=where("java"), id="java"),
        pytest.param(GO, "from Go\n", marks=where("go"), id="go"),
    ],
)
def test_machines_of_languages_start(cold_supervisor: Supervisor, script: str, said: str) -> None:
    result = cold_supervisor.run("shell", script)
    assert result.stdout == said, (result.stopped, result.stderr)


@requires("gosu")
def test_a_program_of_go_starts(cold_supervisor: Supervisor) -> None:
    # Any will do: this one is small, and says by which Go it was made.
    result = cold_supervisor.run("shell", "GOMAXPROCS=64 gosu --version")
    assert "(go1." in result.stdout, (result.stopped, result.stderr)


DENO = """
cat >worker.ts <<'END'
self.onmessage = () => { self.postMessage(new WebAssembly.Memory({ initial: 1, maximum: 65536 }).buffer.byteLength); };
END
cat >main.ts <<'END'
const answers = [...Array(4)].map(() => new Promise((resolve) => {
    const worker = new Worker(new URL('./worker.ts', import.meta.url).href, { type: 'module' });
    worker.onmessage = (event) => { worker.terminate(); resolve(event.data); };
    worker.postMessage('');
}));
console.log((await Promise.all(answers)).length);
END
DENO_DIR=$PWD/cache DENO run --allow-read main.ts
"""


@pytest.mark.slow
@where("deno")
def test_deno_starts_with_workers(cold_supervisor: Supervisor) -> None:
    program = deno()
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="ringfence-deno-") as directory:
        Path(directory).chmod(0o755)
        copy = Path(shutil.copy(program, directory))
        policy = {"filesystem": {"hostPaths": [directory]}}
        result = cold_supervisor.run("shell", DENO.replace("DENO run", f"{copy} run"), policy=policy)
    assert result.stdout == "4\n", (result.stopped, result.stderr)


TOUCHED = """
import ctypes, threading, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
size = 1 << 30
block = libc.mmap(None, ctypes.c_size_t(size), 3, 0x4022, -1, ctypes.c_long(0))  # MAP_NORESERVE
print('reserved', flush=True)
def touch(part):
    libc.memset(ctypes.c_void_p(block + part * (size // 4)), 1, ctypes.c_size_t(size // 4))
for part in range(4):
    threading.Thread(target=touch, args=(part,)).start()
time.sleep(1000)
"""


def test_what_is_touched_of_a_reservation_is_held(cold_supervisor: Supervisor) -> None:
    policy = {"resources": {"memoryBytes": 64 * MiB}}
    result = cold_supervisor.run("python", TOUCHED, policy=policy)
    assert (result.stopped, result.stdout) == (Stopped.MEMORY, "reserved\n")


def test_a_process_cannot_reserve_without_end(cold_supervisor: Supervisor) -> None:
    script = """
import ctypes
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_long
held = 0
while held < 1 << 50 and libc.mmap(None, ctypes.c_size_t(1 << 30), 3, 0x4022, -1, ctypes.c_long(0)) != -1:
    held += 1 << 30
print(held < 1 << 50)
"""
    assert cold_supervisor.run("python", script).stdout == "True\n"


def test_where_the_kernel_takes_reservations_for_use_they_count_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = tmp_path / "overcommit_memory"
    setting.write_text("2\n")
    monkeypatch.setattr(per_process, "OVERCOMMIT", setting)
    resources = Resources()
    assert per_process.process_limits(resources)["RLIMIT_DATA"] == (resources.memory_bytes,) * 2
    setting.write_text("0\n")
    beside = per_process.reservable(resources, 0)
    assert beside == resources.max_processes * 8 * MiB + 1024 * MiB
    assert per_process.process_limits(resources)["RLIMIT_DATA"][0] >= resources.memory_bytes + beside
