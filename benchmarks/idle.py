"""What an installation takes of a processor while nothing is asked of it: `python -m benchmarks.idle [SECONDS]`.

Measured on `ringfence up` as it is: a host, its own PostgreSQL and the agent of this machine, each in its own process.
The baseline, in the same time, is a FastAPI application that uvicorn serves and that does nothing at all. In percent of
one processor, with how often each wakes up in a second. The two sample checks of a new installation are removed first.

It prints a table, or JSON with `--json`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ringfence.cli.address import Address
from ringfence.cli.client import HostClient
from ringfence.testing import make_reachable_directory

from benchmarks.http import processor_seconds
from benchmarks.relay import free_port

SECONDS = 60.0
PATIENCE_SECONDS = 120.0
SETTLE_SECONDS = 10.0
"""How long after its start a process is left alone."""
CHECKS = "/api/health-checks/checks"
PLAIN = """
import fastapi, sys, uvicorn
uvicorn.run(fastapi.FastAPI(), port=int(sys.argv[1]), log_level="error")
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one part took, in percent of a processor, and how often its processes woke up in a second."""

    part: str
    percent: float
    wakes: float


@dataclass(frozen=True, slots=True)
class Used:
    """What a process has used since it began."""

    seconds: float
    wakes: int


def descendants(pid: int) -> Iterator[int]:
    """A process, and all that came from it."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                yield from descendants(int(child))


def used(pid: int) -> Used:
    """See proc(5), schedstat and status."""
    wakes = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            _, _, rest = (thread / "status").read_text().partition("\nvoluntary_ctxt_switches:")
            wakes += int(rest.split()[0])
    return Used(processor_seconds(pid), wakes)


def part_of(pid: int, host: int) -> str:
    """Which part of the installation a process belongs to."""
    command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    if pid == host:
        return "host"
    if b"ringfence agent" in command:
        return "agent"
    return "database" if b"postgres" in command else "sandboxes"


def snapshot(host: int, plain: int) -> dict[int, tuple[str, Used]]:
    """All processes, each with its part and what it has used so far."""
    found = {plain: ("plain uvicorn", used(plain))}
    for pid in descendants(host):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[pid] = (part_of(pid, host), used(pid))
    return found


def compared(
    before: dict[int, tuple[str, Used]], after: dict[int, tuple[str, Used]], seconds: float
) -> list[Figures]:
    """What each part took between two snapshots; a process that is in one of them alone is left out."""
    parts: dict[str, list[float]] = {}
    for pid in before.keys() & after.keys():
        part, then, now = after[pid][0], before[pid][1], after[pid][1]
        sums = parts.setdefault(part, [0.0, 0.0])
        sums[0] += now.seconds - then.seconds
        sums[1] += now.wakes - then.wakes
    return [
        Figures(part, round(100 * spent / seconds, 2), round(wakes / seconds, 1))
        for part, (spent, wakes) in sorted(parts.items(), key=lambda one: -one[1][0])
    ]


@contextlib.asynccontextmanager
async def running(*arguments: str, **environment: str) -> AsyncIterator[int]:
    """A Python process, ended with SIGTERM; yields its number."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def left_alone(data_dir: Path) -> None:
    """Wait until the installation is up, and have it do nothing."""
    note = data_dir / "instance.json"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        if not note.exists():
            continue
        address = Address(json.loads(note.read_text())["url"], (data_dir / "admin-token").read_text().strip())
        with HostClient(address) as host:
            checks = host.request("GET", CHECKS)["checks"]
            if len(checks) == 2:
                for check in checks:
                    host.request("DELETE", f"{CHECKS}/{check['id']}")
                await asyncio.sleep(SETTLE_SECONDS)
                return
    raise RuntimeError("the installation did not come up")


async def run(seconds: float) -> list[Figures]:
    """Start both, and compare."""
    directory = make_reachable_directory()
    try:
        async with (
            running(
                "-m", "ringfence", "up", "--port", "0", RINGFENCE_DATA_DIR=str(directory / "data")
            ) as host,
            running("-c", PLAIN, str(free_port())) as plain,
        ):
            await left_alone(directory / "data")
            before, began = snapshot(host, plain), time.monotonic()
            await asyncio.sleep(seconds)
            return compared(before, snapshot(host, plain), time.monotonic() - began)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.idle", description="Measure an idle installation."
    )
    parser.add_argument("seconds", nargs="?", type=float, default=SECONDS)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    wanted = parser.parse_args()
    figures = asyncio.run(run(wanted.seconds))
    if wanted.json:
        json.dump([asdict(one) for one in figures], sys.stdout)
        return
    print(f"{'part':<16}{'processor':>12}{'wakes':>14}")
    for one in figures:
        print(f"{one.part:<16}{one.percent:>10.2f} %{one.wakes:>11.1f} /s")


if __name__ == "__main__":
    main()
