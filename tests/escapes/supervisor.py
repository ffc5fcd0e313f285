"""A supervisor to attack: runs scripts that it reads from its standard input, one JSON object a line.

It is a program of its own, with nothing but the package itself to import, so that it can run as another user.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ringfence.sandbox import DEFAULT_POLICY, Needs, PolicySnapshot, overlay
from ringfence.sandbox.capabilities.found import Missing
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.launch.kept import KEPT
from ringfence.sandbox.wrappers.choice import chosen
from ringfence.scripts import (
    PackageTree,
    RunnerSettings,
    RunResult,
    ScriptKind,
    ScriptRequest,
    set_package_provider,
)
from ringfence.scripts.packages.pins import pin
from ringfence.scripts.running.runner import Runner

PRIMING_RUNS = 2
"""From the second run of a kind on, sandboxes wait for the next."""

KEPT.add(os.environ["SUPERVISOR_KEEPS"])

WRAPPER = chosen()
COLD = Runner(RunnerSettings(max_concurrent_runs=8, warm_sandboxes=0, wrapper=WRAPPER))
WARM = Runner(RunnerSettings(max_concurrent_runs=8, warm_sandboxes=3, wrapper=WRAPPER))

SETS = ("one", "two")
"""The sets of packages, with a tree each, in which is one module whose name is that of its set."""

TREES = Path(tempfile.mkdtemp(prefix="ringfence-trees-"))


def make_trees() -> None:
    """Make the trees, as this user's own, where every user can reach them."""
    TREES.chmod(0o755)
    for name in SETS:
        module = TREES / name / "python" / f"only_in_{name}.py"
        module.parent.mkdir(parents=True)
        module.write_text(f"WORD = {name!r}\n")
        (TREES / name / "node_modules").mkdir()


async def provide(name: str) -> PackageTree | None:
    """The tree of a set."""
    held = pin(TREES / name, TREES / f"{name}.pin") if name in SETS else None
    return None if held is None else PackageTree(name, "0" * 64, held)


PRIMING = {ScriptKind.AUTO: "#!/bin/sh\n", ScriptKind.PROGRAM: "#!/bin/sh\n"}
"""What is run before, where nothing at all is no script of the kind."""

PRIMED: set[str] = set()
"""The policies and kinds for which sandboxes should be waiting."""


def host(without: Sequence[str]) -> Capabilities | None:
    """This host without some of its primitives; None for as it is."""
    blocked: dict[str, Any] = dict.fromkeys(without, Missing(reason="taken away by a test"))
    return replace(probe(), **blocked) if blocked else None


async def attempt(order: dict[str, Any]) -> RunResult:
    """Run one script; in a sandbox that was prepared before, if so ordered."""
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, order["policy"]))
    kind = ScriptKind(order["kind"])
    given = dict(order["given"])
    needs = Needs.parse(given.pop("needs")) if "needs" in given else None
    request = ScriptRequest(
        kind,
        order["script"],
        context=order.get("context"),
        timeout_ms=order["timeoutMs"],
        env=order["env"],
        state=None if order["state"] is None else bytes.fromhex(order["state"]),
        needs=needs,
        **given,
    )
    if not order["warm"]:
        return await COLD.run(snapshot, request, capabilities=host(order["without"]))
    # What is given a standard input waits for it.
    stdin = None if order["given"].get("stdin") is None else ""
    state = None if order["state"] is None else b""
    packages = given.get("packages")
    key = json.dumps([order["policy"], kind, stdin, state is None, needs and needs.to_wire(), packages])
    if key not in PRIMED:
        for _ in range(PRIMING_RUNS):
            primed = ScriptRequest(
                kind, PRIMING.get(kind, ""), stdin=stdin, state=state, needs=needs, packages=packages
            )
            await WARM.run(snapshot, primed)
        PRIMED.add(key)
    result = await WARM.run(snapshot, request)
    if not result.timing.warm and not result.refused:
        # Other kinds had taken the places: prime again, and judge what a warm one does.
        PRIMED.discard(key)
        return await attempt(order)
    return result


async def serve() -> None:
    """Serve orders until the input ends. A list of orders is run at once."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        results = await asyncio.gather(*map(attempt, json.loads(line)))
        answer = {
            "pid": os.getpid(),
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "states": [(result.kept_state or b"").hex() for result in results],
            "results": [result.model_dump(mode="json", by_alias=True) for result in results],
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    make_trees()
    set_package_provider(provide)
    try:
        asyncio.run(serve())
    finally:
        shutil.rmtree(TREES)
