"""What a network costs a run, and what passes through it: by a relay, by a userspace stack, and without any of them.

`start` is a run that does nothing, cold and warm: `none` under the shipped policy, the others with an allowlist.
`stream` is how fast a script receives from a server of this machine, at an address that is not of the loopback, and
`connect` is how long a connection takes, one after the other; `plain` is the same script without a sandbox. The
subjects take turns, so that a noisy moment hits all of them.

Usage: python -m benchmarks.egress [--rounds N] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.capabilities.probe import probe, probe_now
from ringfence.sandbox.egress import probe as egress_probe
from ringfence.sandbox.faults import Unavailable
from ringfence.scripts import RunnerSettings, ScriptKind, ScriptRequest
from ringfence.scripts.running.runner import Runner

MiB = 1024 * 1024
STREAMED = 256 * MiB
CONNECTIONS = 200

CLIENT = """
import socket, time

def main(context):
    address, port = context["server"]
    began = time.perf_counter()
    with socket.create_connection((address, port)) as end:
        end.sendall(b"s")
        buffer, received = bytearray(1 << 18), 0
        while count := end.recv_into(buffer):
            received += count
    streamed = received / (time.perf_counter() - began) / 2**20
    began = time.perf_counter()
    for _ in range(context["connections"]):
        with socket.create_connection((address, port)) as end:
            end.sendall(b"c")
            end.recv(1)
    return [streamed, (time.perf_counter() - began) / context["connections"] * 1000]
"""


@contextlib.contextmanager
def server() -> Iterator[tuple[str, int]]:
    """A server of this machine: it streams to whoever asks for that, and answers others with a byte."""
    listening = socket.create_server((_own_address(), 0), backlog=128)

    def serve(end: socket.socket) -> None:
        with end, contextlib.suppress(OSError):
            if end.recv(1) == b"s":
                chunk = bytes(MiB)
                for _ in range(STREAMED // MiB):
                    end.sendall(chunk)
            else:
                end.sendall(b"!")

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listening.getsockname()
    listening.close()


def _own_address() -> str:
    """An address of this machine that is not of its loopback. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.connect(("192.0.2.1", 9))
        return str(end.getsockname()[0])


def _without_relay() -> Capabilities:
    """This machine as it is found where no relay can be had."""

    def relay(_: object) -> bool:
        raise Unavailable("not wanted here")

    vars(egress_probe)["relay"] = relay
    return probe_now()


async def measure(rounds: int) -> dict[str, Any]:
    """The median of each figure."""
    found = probe()
    stack = _without_relay()
    starts: dict[str, list[float]] = {}
    passing: dict[str, list[tuple[float, float]]] = {}
    with server() as (address, port):
        listed = overlay(DEFAULT_POLICY, {"network": {"allow": [f"{address}:{port}"]}})
        subjects: dict[str, tuple[Capabilities, Any]] = {
            "none": (found, DEFAULT_POLICY),
            "relay": (found, listed),
            "slirp4netns" if stack.slirp4netns.available else "pasta": (stack, listed),
        }
        cold = {name: Runner(RunnerSettings(max_concurrent_runs=1, warm_sandboxes=0)) for name in subjects}
        warm = {name: Runner(RunnerSettings(max_concurrent_runs=1, warm_sandboxes=2)) for name in subjects}
        for _ in range(rounds):
            for name, (capabilities, policy) in subjects.items():
                snapshot = PolicySnapshot(policy)
                nothing = ScriptRequest(ScriptKind.SHELL, ":")
                for label, runner in (("cold", cold[name]), ("warm", warm[name])):
                    began = time.perf_counter()
                    result = await runner.run(snapshot, nothing, capabilities=capabilities)
                    if label == "cold" or (result.timing and result.timing.warm):
                        starts.setdefault(f"{name}, {label}", []).append((time.perf_counter() - began) * 1000)
                    # Its successor is made in the meantime.
                    while label == "warm" and len(runner.pool) < 1 and len(starts) > 3:
                        await asyncio.sleep(0.005)
        for _ in range(max(rounds // 10, 1)):
            context = {"server": [address, port], "connections": CONNECTIONS}
            passing.setdefault("plain", []).append(_plain(context))
            for name, (capabilities, policy) in subjects.items():
                if name == "none":
                    continue
                request = ScriptRequest(ScriptKind.PYTHON, CLIENT, context=context)
                result = await cold[name].run(PolicySnapshot(policy), request, capabilities=capabilities)
                assert isinstance(result.value, list), (name, result.stderr, result.sandbox.downgrades)
                passing.setdefault(name, []).append((result.value[0], result.value[1]))
        for runner in (*cold.values(), *warm.values()):
            runner.pool.clear()
    return {
        "startMs": {name: round(statistics.median(times), 2) for name, times in starts.items()},
        "streamMiBPerSecond": {
            name: round(statistics.median(s for s, _ in got)) for name, got in passing.items()
        },
        "connectMs": {name: round(statistics.median(c for _, c in got), 3) for name, got in passing.items()},
    }


def _plain(context: dict[str, Any]) -> tuple[float, float]:
    program = f"{CLIENT}\nimport json, sys\nprint(json.dumps(main(json.loads(sys.argv[1]))))"
    told = subprocess.run(
        [sys.executable, "-I", "-c", program, json.dumps(context)], capture_output=True, check=True
    ).stdout
    streamed, connected = json.loads(told)
    return streamed, connected


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = asyncio.run(measure(options.rounds))
    if options.json:
        print(json.dumps(figures))
        return
    for what, rows in figures.items():
        for name, value in rows.items():
            print(f"{what:20} {name:20} {value:>10}")


if __name__ == "__main__":
    main()
