"""How far a run gets over its memory limit before it is ended: what a script has touched by then, over what it may.

`summed` is a run whose memory the supervisor sums by looking; `cgroup` is one with a cgroup of its own, where this
supervisor is given one (docs/limits.md). The scripts do nothing but take memory, as fast as they can, in as many
processes or threads as there are processors; each says so for every MiB that it has. They take turns.

Usage: python -m benchmarks.overshoot [--rounds N] [--limit-mib N] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
from dataclasses import asdict, dataclass, replace

from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.capabilities.found import Missing
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.capabilities.probe import probe
from ringfence.scripts import ScriptKind, ScriptRequest, Stopped, run_under

MIB = 1024 * 1024

_IN_PROCESSES = """
import ctypes, mmap, os, socket, time
def in_processes(take):
    for _ in range({processes}):
        if os.fork() == 0:
            for _ in take():
                os.write(1, b'x')
            time.sleep(1000)
    time.sleep(1000)
"""
SCRIPTS = {
    "private memory": """
def take():
    held = []
    while True:
        held.append(mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        held[-1].write(PIECE)
        yield
PIECE = bytes(1 << 20)
in_processes(take)
""",
    "threads of one process": """
import ctypes, threading
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
def takes():
    while True:
        block = libc.mmap(None, ctypes.c_size_t(1 << 20), 3, 0x22, -1, ctypes.c_long(0))
        libc.memset(ctypes.c_void_p(block), 1, ctypes.c_size_t(1 << 20))
        os.write(1, b'x')
for _ in range({processes}):
    threading.Thread(target=takes).start()
""",
    "unix sockets": """
def take():
    held, sent = [], 0
    while True:
        pair = socket.socketpair()
        held.append(pair)
        pair[0].setblocking(False)
        try:
            while True:
                sent += pair[0].send(PIECE)
                while sent >= 1 << 20:
                    sent -= 1 << 20
                    yield
        except BlockingIOError:
            pass
PIECE = bytes(1 << 16)
in_processes(take)
""",
    "loopback TCP": """
def take():
    held, sent = [socket.create_server(('127.0.0.1', 0), backlog=1000)], 0
    while True:
        client = socket.create_connection(held[0].getsockname())
        held.append(client)
        client.setblocking(False)
        try:
            while True:
                sent += client.send(PIECE)
                while sent >= 1 << 20:
                    sent -= 1 << 20
                    yield
        except BlockingIOError:
            pass
PIECE = bytes(1 << 18)
in_processes(take)
""",
}


@dataclass(frozen=True)
class Figure:
    """One script and one way to hold its limit: MiB taken when it was ended, and how long that took from its start."""

    script: str
    held_by: str
    limit_mib: int
    median_mib: float
    most_mib: int
    median_ms: float


async def once(host: Capabilities, script: str, limit_mib: int) -> tuple[int, float]:
    """Run a script until it is ended: the MiB that it had, and milliseconds."""
    limits = {"memoryBytes": limit_mib * MIB, "maxOpenFiles": 65536}
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, {"resources": limits}))
    text = (_IN_PROCESSES + SCRIPTS[script]).replace("{processes}", str(os.cpu_count() or 1))
    result = await run_under(
        snapshot, ScriptRequest(ScriptKind.PYTHON, text, timeout_ms=60_000), capabilities=host
    )
    assert result.stopped is Stopped.MEMORY, (result.stopped, result.stderr)
    return len(result.stdout), result.duration_ms


async def measure(rounds: int, limit_mib: int) -> list[Figure]:
    """Every script under every way that this host has, in turns."""
    here = probe()
    ways = {"summed": replace(here, cgroup=Missing(reason="not wanted"))}
    if here.cgroup.available:
        ways["cgroup"] = here
    taken: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for _ in range(rounds):
        for script in SCRIPTS:
            for way, host in ways.items():
                taken.setdefault((script, way), []).append(await once(host, script, limit_mib))
    return [
        Figure(
            script,
            way,
            limit_mib,
            statistics.median(mib for mib, _ in results),
            max(mib for mib, _ in results),
            statistics.median(ms for _, ms in results),
        )
        for (script, way), results in taken.items()
    ]


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit-mib", type=int, default=256)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = asyncio.run(measure(options.rounds, options.limit_mib))
    if options.json:
        print(json.dumps([asdict(figure) for figure in figures], indent=2))
        return
    print(f"{'script':16} {'held by':8} {'limit':>6} {'median':>8} {'most':>6}   MiB; {'ended after':>12}")
    for each in figures:
        amounts = f"{each.limit_mib:6} {each.median_mib:8.0f} {each.most_mib:6}"
        print(f"{each.script:16} {each.held_by:8} {amounts}        {each.median_ms:9.0f} ms")


if __name__ == "__main__":
    main()
