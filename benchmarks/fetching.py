"""How long it takes until many satellites have fetched a set of packages from one instance, and who suffers from it.

All of them want it at once, and ask for the next piece as soon as they have one. Meanwhile the policy changes again
and again: the time from the commit until the last of `WATCHERS` other satellites has read it is measured before, when
nobody fetches, and while all do. Also told is what the instance needs of memory and processors.

Usage: python -m benchmarks.fetching [--satellites N] [--mib N]

By default they are few, and so is what they want; 300 and 40 is the size that is promised to work.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import time
from pathlib import Path

from ringfence.storage.migrating import MigrationBranch, migrate
from ringfence.testing import make_reachable_directory

from benchmarks.relay import BRANCHES, WEBSOCKET, Process, database, free_port, register, start

WATCHERS = 10
IDLE_CHANGES = 40
PAUSE_SECONDS = 0.25
MIB = 1024 * 1024


def processor_seconds(pid: int) -> float:
    """How long that process has had a processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def highest_mib(pid: int) -> float:
    """How much memory that process has held at most."""
    [line] = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def forget_highest(pid: int) -> None:
    """Count that anew from now on (proc(5))."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def change(server: Process, watchers: Process, number: int) -> float:
    """Change the policy; the milliseconds from the commit until the last watcher has read it."""
    changed = await server.ask(change=number)
    told = await watchers.ask(**{"await": changed["revision"]})
    return float((told["last"] - changed["committed"]) * 1000)


def told(what: str, took: list[float]) -> str:
    """A line of the table."""
    ordered = sorted(took)
    high = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"{what:16}{len(took):>8}{statistics.median(took):>9.1f} ms{high:>9.1f} ms{ordered[-1]:>9.1f} ms"


async def measure(directory: Path, satellites: int, mib: int) -> None:
    """Do it once, and print what it took."""
    credentials = directory / "credentials.json"
    watching, fetching = directory / "watching.json", directory / "fetching.json"
    branches = [*BRANCHES, MigrationBranch("script-packages", "ringfence_migrations.script_packages")]
    async with database() as postgres:
        await migrate(postgres.url, branches)
        await register(postgres.url, satellites + WATCHERS, credentials)
        known = json.loads(credentials.read_text())
        watching.write_text(json.dumps(known[:WATCHERS]))
        fetching.write_text(json.dumps(known[WATCHERS:]))
        port = free_port()
        server = await start(
            "_fetch_server", str(port), postgres.url, str(directory / "data"), str(mib * MIB)
        )
        watchers = fetchers = None
        try:
            lock = (await server.hear())["lock"]
            await server.hear()
            watchers = await start("_relay_peers", str(port), WEBSOCKET, str(watching))
            await watchers.ask(connect=True)
            fetchers = await start("_fetch_peers", str(port), WEBSOCKET, str(fetching))
            await fetchers.ask(connect=True)
            idle = []
            for number in range(IDLE_CHANGES):
                idle.append(await change(server, watchers, number))
                await asyncio.sleep(PAUSE_SECONDS)
            forget_highest(server.pid)
            held, had, began = highest_mib(server.pid), processor_seconds(server.pid), time.time()
            all_done = asyncio.create_task(fetchers.ask(fetch=lock))
            busy: list[float] = []
            while not all_done.done():
                busy.append(await change(server, watchers, IDLE_CHANGES + len(busy)))
                await asyncio.wait({all_done}, timeout=PAUSE_SECONDS)
            done = [at - began for at in (await all_done)["done"]]
            spent, more = processor_seconds(server.pid) - had, highest_mib(server.pid) - held
        finally:
            for process in filter(None, (watchers, fetchers)):
                await process.kill()
            await server.stop()
    total = satellites * mib
    print(
        f"{satellites} satellites, {mib} MiB each: all done after {done[-1]:.1f} s, the first after {done[0]:.1f} s"
    )
    print(
        f"{total / done[-1]:.0f} MiB/s; {spent:.1f} s of a processor, {spent / total * 1000:.2f} ms for each MiB"
    )
    print(f"memory of the instance: {more:+.1f} MiB at most beside before ({held:.1f} MiB)")
    print(f"{'policy arrives':16}{'changes':>8}{'median':>12}{'99 %':>12}{'worst':>12}")
    print(told("nobody fetches", idle))
    print(told("all fetch", busy))
    print(f"ratio of medians: {statistics.median(busy) / statistics.median(idle):.2f}")


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--satellites", type=int, default=50)
    parser.add_argument("--mib", type=int, default=4)
    wanted = parser.parse_args()
    directory = make_reachable_directory()
    try:
        asyncio.run(measure(directory, wanted.satellites, wanted.mib))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
