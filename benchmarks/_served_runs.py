"""Run scripts when told to, and tell what each took: by one checkout, for `_beside`, which has two.

It is started by the other checkout's interpreter, too, and uses only what every version has. A line of JSON on standard
input says what to run; a line on standard output says how long it took, in milliseconds for each run, and how much
processor time this process and what it started have used for it. It comes when they have come to rest, so that
nothing of it is left to hinder the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from pathlib import Path

from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot
from ringfence.scripts import RunnerSettings, ScriptKind, ScriptRequest, configure, run_under

AT_ONCE = 16
TICKS = os.sysconf("SC_CLK_TCK")


def others() -> dict[int, int]:
    """The processor time of each process under this one, with that of its children that have ended; in ticks."""
    found, parents = {}, [os.getpid()]
    while parents:
        parent = parents.pop()
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                for pid in map(int, (task / "children").read_text().split()):
                    with contextlib.suppress(OSError):
                        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                        found[pid] = sum(map(int, fields[11:15]))
                        parents.append(pid)
    return found


async def rest() -> float:
    """Wait until nothing under this process works any more; the processor time that looking for that took."""
    before: dict[int, int] = {-1: 0}
    looked = 0.0
    while True:
        begun = time.thread_time()
        now = others()
        looked += time.thread_time() - begun
        if now == before:
            return looked
        before = now
        await asyncio.sleep(0.05)


async def main() -> None:
    """Serve until standard input ends."""
    snapshot, warm = PolicySnapshot(DEFAULT_POLICY, revision=1), None
    for line in sys.stdin:
        asked = json.loads(line)
        request = ScriptRequest(ScriptKind(asked["kind"]), "")
        if warm != asked["warm"]:
            warm = asked["warm"]
            configure(RunnerSettings(max_concurrent_runs=AT_ONCE, warm_sandboxes=AT_ONCE if warm else 0))

        async def one(request: ScriptRequest = request) -> None:
            result = await run_under(snapshot, request)
            if result.exit_code != 0:
                raise RuntimeError(f"{result.stderr} {result.sandbox.downgrades}")

        under, used, begun = sum(others().values()), time.process_time(), time.perf_counter()
        await (one() if asked["runs"] == 1 else asyncio.gather(*(one() for _ in range(asked["runs"]))))
        took = time.perf_counter() - begun
        looked = await rest()
        used = time.process_time() - used - looked
        told = [took, used, (sum(others().values()) - under) / TICKS]
        print(json.dumps([1000 * seconds / asked["runs"] for seconds in told]), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
