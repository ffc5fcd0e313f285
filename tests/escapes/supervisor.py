"""A supervisor to attack: runs scripts that it reads from its standard input, one JSON object a line.

It is a program of its own, with nothing but the package itself to import, so that it can run as another user.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from typing import Any

from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.scripts import RunnerSettings, ScriptKind, ScriptRequest
from ringfence.scripts.runner import Runner

PRIMING_RUNS = 2


async def attempt(runner: Runner, order: dict[str, Any]) -> dict[str, Any]:
    """Run one script; in a sandbox that was prepared before, if so ordered."""
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, order["policy"]))
    kind = ScriptKind(order["kind"])
    for _ in range(PRIMING_RUNS if order["warm"] else 0):
        await runner.run(snapshot, ScriptRequest(kind, ""))
    request = ScriptRequest(
        kind,
        order["script"],
        context=order.get("context"),
        timeout_ms=order["timeoutMs"],
        env=order["env"],
    )
    result = await runner.run(snapshot, request)
    if not order["keep"]:
        runner.pool.clear()
    return result.model_dump(mode="json", by_alias=True)


async def serve() -> None:
    """Serve orders until the input ends. A list of orders is run at once."""
    runner = Runner(RunnerSettings(max_concurrent_runs=8, warm_sandboxes=1))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        orders = json.loads(line)
        results = await asyncio.gather(*(attempt(runner, order) for order in orders))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"pid": os.getpid(), "peak": peak, "results": results}), flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
