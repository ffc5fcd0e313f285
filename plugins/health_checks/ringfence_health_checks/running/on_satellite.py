"""A task that is carried out once on a satellite, whoever asked for it, and read here."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import Mapping

from pydantic import ValidationError
from ringfence.scripts import Carried, RunResult, Task, judged, unknown
from ringfence.scripts.reading import AssertionSyntaxError
from ringfence.scripts.tasks.placeholders import UnknownPlaceholderError
from ringfence_satellite.service import KnownSatellite, PlacedTask, RunScript, Satellites


async def carry_out_on(
    satellites: Satellites,
    satellite: KnownSatellite,
    task: Task,
    facts: Mapping[str, str],
    *,
    timeout_ms: int,
    config_id: str | None,
) -> Carried:
    """Run a task of which these facts hold on a satellite, under the policy there.

    Its secrets are not in what is sent, which may pass through the database to another instance: the satellite asks for
    those of the assignment `config_id`, whose state it also is; without one, what a task leaves is kept nowhere.

    Raises:
        RunFailed: if there is no result.
    """
    executed_at, format = dt.datetime.now(dt.UTC), task.read_as
    try:
        placed = PlacedTask.of(task, facts, satellite.facts)
        claims = placed.claims()
    except (UnknownPlaceholderError, AssertionSyntaxError) as error:
        return Carried(unknown(f"not run: {error}"), format, executed_at)
    frame = RunScript.carrying_out(
        placed, run_id=str(uuid.uuid4()), timeout_ms=timeout_ms, config_id=config_id
    )
    outcome = await satellites.run(satellite.id, frame)
    try:
        run = RunResult.model_validate(outcome)
    except ValidationError:
        verdict = unknown("the satellite's answer cannot be read by this release of the host")
        return Carried(verdict, format, executed_at)
    verdict = await asyncio.to_thread(judged, run, format, claims)
    return Carried(verdict, format, executed_at, run)
