"""Runs on a real database: what is recorded, who waits for whom, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest
from ringfence.testing import RunHost
from ringfence_automations.runs.deciding.plan import Repeat, WaitFor, Work

from tests.automations.runs.conductor import Conductor, by_hand
from tests.automations.runs.course_world import Given, always


def work(id: str, **more: Any) -> Work:
    return Work(id=id, kind="work", body={}, **more)


@pytest.fixture
async def conductor(run_host: RunHost) -> Conductor:
    made = Conductor()
    await run_host(plugins=[made])
    return made


async def test_a_run_does_its_steps_and_keeps_what_they_gave_back(conductor: Conductor) -> None:
    conductor.score.have(
        work("first"),
        WaitFor(id="pause", seconds=0.1),
        Repeat(id="each", over=always([1, 2]), at_once=2, steps=(work("look"),)),
        work("last", when=Given(lambda v: v["artifacts"]["first"]["path"] == "first")),
    )
    run = await conductor.begun(actor="ann")
    ended = await conductor.ended(run)
    assert (ended.status, ended.message, ended.started_by) == ("succeeded", None, "ann")
    assert sorted(await conductor.steps(run)) == [
        ("each", 1, "succeeded"),
        ("each[0].look", 1, "succeeded"),
        ("each[1].look", 1, "succeeded"),
        ("first", 1, "succeeded"),
        ("last", 1, "succeeded"),
        ("pause", 1, "succeeded"),
    ]


async def test_a_run_that_is_rolled_back_never_was(conductor: Conductor) -> None:
    conductor.score.have(work("a"))
    async with conductor.context.sessions() as session:
        await conductor.engine.start(session, "a", 1, trigger=by_hand(), event={})
        await session.rollback()
    later = await conductor.begun()
    await conductor.ended(later)
    assert conductor.score.performed == [("a", 1)]
