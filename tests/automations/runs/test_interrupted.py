"""Instances are lost between any two effects: what had started is not silently repeated, and every run ends."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from ringfence.testing import RunHost
from ringfence_automations.definitions.definition import Mode
from ringfence_automations.definitions.step import OnInterrupted
from ringfence_automations.runs.carrying_out import CarryingOut
from ringfence_automations.runs.deciding.plan import Work
from ringfence_automations.runs.engine import Engine
from ringfence_automations.service import StepRequest, StepResult
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.automations.runs.conductor import Conductor, Gate, Score, by_hand
from tests.automations.runs.course_world import Given


class LostError(RuntimeError):
    """The instance is gone."""


class Fate:
    """Loses the instance once for each run: at the effect of that number, counted over the whole run."""

    def __init__(self) -> None:
        self.lost_at: dict[UUID, int] = {}
        self.effects: Counter[UUID] = Counter()

    def strikes(self, run: UUID) -> None:
        self.effects[run] += 1
        if self.effects[run] == self.lost_at.get(run):
            raise LostError


@pytest.fixture
def fate(monkeypatch: pytest.MonkeyPatch) -> Fate:
    """Before and after each transaction of the engine, and in the middle of each step."""
    made = Fate()

    def around(owner: Any, name: str, run_of: Callable[..., UUID]) -> None:
        original = getattr(owner, name)

        async def struck(*args: Any, **more: Any) -> Any:
            run = run_of(*args, **more)
            made.strikes(run)
            answer = await original(*args, **more)
            made.strikes(run)
            return answer

        monkeypatch.setattr(owner, name, struck)

    around(Engine, "advance", lambda _self, _session, run: run)
    around(Engine, "step_ended", lambda _self, _session, run, *_: run)
    around(CarryingOut, "_begin", lambda _self, _first, job, _session: job.payload.run)
    around(Conductor, "perform", lambda _self, request: request.run)
    return made


EFFECTS = 28
"""More than a run of this shape has."""
STEPS = (
    Work(id="must-not", kind="work", body={}),
    Work(id="again", kind="work", body={}, on_interrupted=OnInterrupted.RETRY),
    Work(id="never-mind", kind="work", body={}, on_interrupted=OnInterrupted.SKIP),
)


@pytest.mark.slow
async def test_wherever_an_instance_is_lost_no_step_is_silently_repeated_and_every_run_ends(
    run_host: RunHost, fate: Fate
) -> None:
    score, done = Score(), defaultdict[UUID, Counter[str]](Counter)

    async def note(request: StepRequest) -> StepResult:
        done[request.run][request.path] += 1
        return StepResult(ok=True)

    score.doing = {step.id: note for step in STEPS}
    score.have(*STEPS, mode=Mode.PARALLEL, most=100)
    conductor = Conductor(score)
    await run_host(plugins=[conductor])
    runs = []
    for number in range(EFFECTS):
        async with conductor.context.sessions.begin() as session:
            run = await conductor.engine.start(session, "a", 1, trigger=by_hand(), event={})
            assert isinstance(run, UUID)
            fate.lost_at[run] = number
            runs.append(run)
    outcomes: Counter[str] = Counter()
    for run in runs:
        ended, steps = await conductor.ended(run), await conductor.steps(run)
        outcomes[ended.status] += 1
        assert done[run]["must-not"] <= 1
        assert done[run]["never-mind"] <= 1
        how = {(path, attempt): status for path, attempt, status in steps}
        if ended.status == "failed":
            assert how == {("must-not", 1): "interrupted"}
            assert ended.message is not None
            assert ended.message.startswith("step must-not: it was interrupted")
        else:
            assert ended.status == "succeeded"
            assert how["must-not", 1] == "succeeded"
            assert done[run]["must-not"] == 1
            assert done[run]["again"] in (1, 2)
            assert done[run]["again"] == 1 or ("again", 2) in how
            assert how["never-mind", 1] in ("succeeded", "interrupted")
        assert len(how) == len(steps)
    assert fate.effects[runs[0]] < EFFECTS, "some are lost at every effect"
    assert set(outcomes) == {"succeeded", "failed"}


@pytest.mark.slow
async def test_two_instances_keep_the_order_of_each_key_and_lose_nothing(
    run_host: RunHost, fate: Fate
) -> None:
    """Runs are started and carried on by both at once, some of them lose their instance, and none overtakes."""
    score, luck = Score(), random.Random(17)
    order = defaultdict[str, list[int]](list)
    busy: Counter[str] = Counter()

    async def note(request: StepRequest) -> StepResult:
        key, number = request.values["event"]["key"], request.values["event"]["n"]
        busy[key] += 1
        assert busy[key] == 1, "two runs of a key at once"
        order[key].append(number)
        await asyncio.sleep(0)
        busy[key] -= 1
        return StepResult(ok=True)

    score.doing = {"first": note, "then": note}
    score.have(
        Work(id="first", kind="work", body={}, on_interrupted=OnInterrupted.RETRY),
        Work(id="then", kind="work", body={}, on_interrupted=OnInterrupted.RETRY),
        mode=Mode.QUEUED,
        key=Given(lambda v: v["event"]["key"]),
    )
    fleet = [Conductor(score), Conductor(score)]
    for conductor in fleet:
        await run_host(plugins=[conductor])
    runs: list[UUID] = []

    async def begin(key: str) -> None:
        for number in range(6):
            run = await luck.choice(fleet).begun(event={"key": key, "n": number}, once_key=f"{key}/{number}")
            runs.append(run)
            if luck.random() < 0.3:
                fate.lost_at[run] = luck.randint(1, 15)

    await asyncio.gather(*(begin(key) for key in "xyz"))
    for run in runs:
        assert (await fleet[0].ended(run)).status == "succeeded"
    assert len(set(runs)) == 18
    for key in "xyz":
        assert order[key] == sorted(order[key])
        assert set(order[key]) == set(range(6))


async def test_of_many_that_start_at_once_on_two_instances_a_single_one_begins(run_host: RunHost) -> None:
    score = Score()
    gate = score.doing["a"] = Gate()
    score.have(Work(id="a", kind="work", body={}), mode=Mode.SINGLE)
    fleet = [Conductor(score), Conductor(score)]
    for conductor in fleet:
        await run_host(plugins=[conductor])
    started = await asyncio.gather(*(fleet[number % 2].start() for number in range(12)))
    [begun] = [one for one in started if isinstance(one, UUID)]
    gate.open.set()
    assert (await fleet[0].ended(begun)).status == "succeeded"


async def test_what_can_be_asked_for_again_is_not_taken_for_interrupted(
    run_host: RunHost, fate: Fate
) -> None:
    score = Score(repeatable=True)
    asked: list[bool] = []

    async def note(request: StepRequest) -> StepResult:
        asked.append(request.is_asked_again)
        return StepResult(ok=True)

    score.doing = {"a": note}
    score.have(Work(id="a", kind="work", body={}))
    conductor = Conductor(score)
    await run_host(plugins=[conductor])
    run = await conductor.begun()
    fate.lost_at[run] = fate.effects[run] + 6  # after the step was performed, before that is recorded
    assert (await conductor.ended(run)).status == "succeeded"
    assert await conductor.steps(run) == [("a", 1, "succeeded")]
    assert asked[0] is False
    assert all(asked[1:])


async def test_an_instance_that_stops_leaves_no_step_in_doubt(run_host: RunHost) -> None:
    """Its steps are ended, and what becomes of the run is decided by another instance at once."""
    score = Score()
    gate = score.doing["a"] = Gate()
    score.have(
        Work(id="a", kind="work", body={}, on_interrupted=OnInterrupted.SKIP),
        Work(id="b", kind="work", body={}),
    )
    first = Conductor(score)
    host = await run_host(plugins=[first])
    run = await first.begun()
    await first.performing(("a", 1))
    second = Conductor(score)
    await run_host(plugins=[second])
    await host.__aexit__(None, None, None)
    assert (await second.ended(run)).status == "succeeded"
    assert gate.cancelled
    assert await second.steps(run) == [("a", 1, "interrupted"), ("b", 1, "succeeded")]


async def test_a_run_goes_on_though_a_look_at_it_fails_while_the_next_one_waits(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    conductor = Conductor()
    await run_host(plugins=[conductor])
    conductor.score.have(Work(id="a", kind="work", body={}))
    original, failures = Engine.advance, [1, 2]

    async def fails_at_first(self: Engine, session: AsyncSession, run: UUID) -> None:
        if failures:
            failures.pop()
            async with conductor.context.sessions.begin() as other:
                await self.look_at(other, run)
            raise LostError
        await original(self, session, run)

    monkeypatch.setattr(Engine, "advance", fails_at_first)
    assert (await conductor.ended(await conductor.begun())).status == "succeeded"


async def test_a_run_goes_on_however_often_its_instance_was_lost(run_host: RunHost) -> None:
    score = Score()
    score.have(Work(id="a", kind="work", body={}))
    conductor = Conductor(score)
    await run_host(plugins=[conductor])
    async with conductor.context.sessions.begin() as session:
        run = await conductor.engine.start(session, "a", 1, trigger=by_hand(), event={})
        assert isinstance(run, UUID)
        lost = "UPDATE jobs SET status = 'running', instance = gen_random_uuid(), attempts = 9, losses = 8"
        await session.execute(text(lost))
    assert (await conductor.ended(run)).status == "succeeded"
    async with conductor.context.sessions() as session:
        assert list(await session.scalars(text("SELECT kind FROM jobs WHERE status = 'failed'"))) == []
