"""What a run costs: counted in jobs, and in statements on the database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from ringfence.testing import RunHost, eventually
from ringfence_automations.definitions.definition import Mode
from ringfence_automations.runs import starting
from ringfence_automations.runs.deciding.plan import Parallel, Repeat, Stop, WaitUntil, Work
from ringfence_automations.service import StepResult
from sqlalchemy import Engine, event, text

from tests.automations.runs.conductor import Conductor, by_hand, elsewhere
from tests.automations.runs.course_world import Given, always


def work(id: str, **more: Any) -> Work:
    return Work(id=id, kind="work", body={}, **more)


@pytest.fixture
async def conductor(run_host: RunHost) -> Conductor:
    made = Conductor()
    await run_host(plugins=[made])
    return made


@contextmanager
def counted(*, by: asyncio.Task[Any] | None = None) -> Iterator[list[str]]:
    """The statements about runs, those that enqueue jobs among them: of everybody, or of one task."""
    said: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *others: Any) -> None:
        if by is not None and asyncio.current_task() is not by:
            return
        if "automations_" in statement or "INSERT INTO jobs" in statement or "hashtextextended(" in statement:
            said.append(" ".join(statement.split())[:80])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def jobs_of(conductor: Conductor) -> Counter[str]:
    """How many jobs of which kinds there were, once all have ended."""

    async def all_have() -> Counter[str]:
        async with conductor.context.sessions() as session:
            rows = (await session.execute(text("SELECT kind, status FROM jobs"))).all()
        return (
            Counter({})
            if any(row.status in ("waiting", "running") for row in rows)
            else Counter(row.kind.removeprefix("automations.") for row in rows)
        )

    return await eventually(all_have)


async def test_each_step_of_a_run_is_one_job_and_its_begin_and_end_are_told_by_one_each(
    conductor: Conductor,
) -> None:
    conductor.score.have(work("a"), work("b"), work("c"))
    with counted() as said:
        await conductor.ended(await conductor.begun())
        jobs = await jobs_of(conductor)
    assert jobs == {"perform-step": 3, "tell-run-started": 1, "tell-run-finished": 1}
    # Four to start it, ten for each step, and those that end it and tell of it; beside the test's own looks.
    engine = [one for one in said if not one.startswith("SELECT id, number, automation")]
    assert len(engine) <= 4 + 3 * 10 + 8, engine


async def test_a_run_that_waits_for_nothing_has_ended_when_it_is_recorded(conductor: Conductor) -> None:
    conductor.score.have(Stop(id="stop"))
    async with conductor.context.sessions.begin() as session:
        with counted(by=asyncio.current_task()) as said:
            run = await conductor.engine.start(session, "a", 1, trigger=by_hand(), event={})
        # The lock of the key, who is under way, the run, its step, and the job that tells of it.
        assert len(said) == 5, said
    assert isinstance(run, UUID)
    assert (await conductor.run(run)).status == "succeeded"
    assert await jobs_of(conductor) == {"tell-run-finished": 1}
    assert await conductor.steps(run) == [("stop", 1, "succeeded")]


async def test_who_tells_of_a_steps_end_begins_the_next_one(conductor: Conductor) -> None:
    conductor.score.have(work("there"), work("here"))
    conductor.score.doing["there"] = elsewhere
    run = await conductor.begun()
    await conductor.performing(("there", 1))
    async with conductor.context.sessions.begin() as session:
        await conductor.engine.step_ended(session, run, "there", 1, StepResult(ok=True))
        found = await session.execute(text("SELECT count(*) FROM jobs WHERE payload->>'path' = 'here'"))
        assert found.scalar_one() == 1
    assert (await conductor.ended(run)).status == "succeeded"


async def test_nothing_is_left_to_be_done_for_a_run_that_has_ended(conductor: Conductor) -> None:
    conductor.score.have(
        work("timed", timeout=300.0),
        Parallel(id="both", branches=((work("left"),), (work("right", timeout=60.0),)), timeout=600.0),
        WaitUntil(id="until", condition=Given(lambda values: "timed" in values["artifacts"])),
    )
    assert (await conductor.ended(await conductor.begun())).status == "succeeded"
    await jobs_of(conductor)


async def test_a_run_that_begins_many_steps_leaves_them_to_a_job(
    conductor: Conductor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "MOST_AT_ONCE", 3)
    conductor.score.have(Repeat(id="each", over=always([1, 2, 3]), at_once=3, steps=(work("look"),)))
    run = await conductor.begun()
    assert await conductor.steps(run) == []
    assert (await conductor.ended(run)).status == "succeeded"


async def test_what_waits_begins_in_its_order_whatever_room_there_is(conductor: Conductor) -> None:
    conductor.score.have(work("a"), mode=Mode.PARALLEL, most=3)
    async with conductor.context.sessions.begin() as session:
        runs = [await conductor.engine.start(session, "a", 1, trigger=by_hand(), event={}) for _ in range(12)]
    ended = [await conductor.ended(run) for run in runs]  # type: ignore[arg-type]
    begun = [one.started_at for one in ended]
    assert [one.status for one in ended] == ["succeeded"] * 12
    assert begun == sorted(begun)  # type: ignore[type-var]
