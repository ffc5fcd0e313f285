"""A satellite of the storm: `ringfence agent`, and scripts without end beside what its host wants of it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import typer
from ringfence_satellite.agent import process
from ringfence_satellite.agent.command import agent

from tests.package_storm.machine import prepare, run_scripts, take_orders


def also_run_scripts() -> None:
    """Have the agent do that while it serves."""
    serve = process._serve

    async def both(*arguments: Any) -> None:
        tasks = [asyncio.create_task(run_scripts()), asyncio.create_task(take_orders())]
        try:
            await serve(*arguments)
        finally:
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    process._serve = both  # type: ignore[assignment]


if __name__ == "__main__":
    prepare()
    also_run_scripts()
    typer.run(agent)
