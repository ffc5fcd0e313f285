"""A supervisor with claims on the machine of its own, which runs one script. Run as a module.

Its arguments are its claims, the kind of run and a script in Python; what the script returns is printed as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace

from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.capabilities.found import Missing
from ringfence.sandbox.capabilities.probe import probe
from ringfence.scripts import ScriptKind, ScriptRequest, run_under

CLAIMS: dict[str, Callable[[], object]] = {
    "ordinary": lambda: None,
    "at nice -5": lambda: os.nice(-5),
    "in real time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10)),
    "in real time for itself": lambda: os.sched_setscheduler(
        0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(10)
    ),
    "nice": lambda: os.nice(10),
}
RUNS = ("wrapped", "plain")


async def answer(kind: str, script: str) -> object:
    """What the script returns in a run of that kind, or what it said went wrong."""
    policy, host = DEFAULT_POLICY, None
    if kind == "plain":
        policy = overlay(policy, {"onUnavailable": "degrade"})
        blocked = Missing(reason="taken away by a test")
        host = replace(
            probe(), user_namespaces=blocked, network_namespaces=blocked, fresh_proc=blocked, landlock=blocked
        )
    request = ScriptRequest(ScriptKind.PYTHON, script)
    result = await run_under(PolicySnapshot(policy), request, capabilities=host)
    return result.value or result.stderr


if __name__ == "__main__":
    CLAIMS[sys.argv[1]]()
    print(json.dumps(asyncio.run(answer(*sys.argv[2:]))))
