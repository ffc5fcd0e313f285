"""What an instance and a satellite of the storm have in common: short times, scripts without end, and orders by lines.

A line of JSON on standard input is an order; what is told to the test are lines of JSON on standard output.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from ringfence.fleet import leadership
from ringfence.scripts import ScriptKind, ScriptRequest, run
from ringfence.scripts.packages import keeping, provider
from ringfence.scripts.packages.keeping import KeptTrees

from tests.package_storm.doom import DOOM, say

GRACE_SECONDS = 1.0
SETS = ("default", "forms", "extra")
LOOK = """
import hashlib, os
found = []
for path, _, names in os.walk("/packages"):
    for name in names:
        with open(f"{path}/{name}", "rb") as file:
            found.append(f"{path}/{name} {hashlib.sha256(file.read()).hexdigest()}")
print(hashlib.sha256("\\n".join(sorted(found)).encode()).hexdigest())
"""
"""A script that says what it sees at `/packages`, all of it."""


def prepare() -> None:
    """Have this process do soon what others do some time, and watch where it may die."""
    leadership.LEASE_SECONDS, leadership.RENEW_SECONDS, leadership.STOP_SECONDS = 2.0, 0.5, 1.0
    leadership.LOOK_SECONDS = 0.3
    keeping.NOW_AND_THEN_S = 2.0
    keeping.FILES_GRACE_S = GRACE_SECONDS
    original = KeptTrees.__init__

    @functools.wraps(original)
    def made(*arguments: Any, **options: Any) -> None:
        original(*arguments, **{**options, "grace_s": GRACE_SECONDS, "at_most_s": 2.0})

    KeptTrees.__init__ = made  # type: ignore[method-assign]
    DOOM.watch_trees()


async def run_scripts() -> None:
    """Run a script with one set or another, again and again, and tell what came of it."""
    while provider._provider is None:
        await asyncio.sleep(0.05)
    while True:
        name = random.choice(SETS)
        named = None if name == "default" else name
        result = await run(ScriptRequest(ScriptKind.PYTHON, LOOK, timeout_ms=60_000, packages=named))
        say(
            {
                "run": {
                    "set": name,
                    "exit": result.exit_code,
                    "packages": None if result.packages is None else result.packages.model_dump(),
                    "printed": result.stdout.strip(),
                    "error": result.stderr,
                    "refused": [one.reason for one in result.sandbox.downgrades] if result.refused else [],
                }
            }
        )
        await asyncio.sleep(0.5)


async def take_orders(others: Callable[[dict[str, Any]], Awaitable[None]] | None = None) -> None:
    """Do what the test orders, until its end."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as answering:
        while line := await reader.readline():
            order = json.loads(line)
            if "doom" in order:
                DOOM.arm(order["doom"], order["after"], dies=order["dies"])
            elif others is not None:
                answering.create_task(others(order))  # type: ignore[arg-type]
