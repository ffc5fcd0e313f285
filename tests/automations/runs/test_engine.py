"""Runs on a real database: what is recorded, who waits for whom, and what is told of it."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from ringfence.eventlog import read_stream
from ringfence.testing import RunHost, eventually
from ringfence_automations.definitions.definition import Mode
from ringfence_automations.hooks import stream_of_run
from ringfence_automations.runs import engine as engine_module
from ringfence_automations.runs import starting, upkeep
from ringfence_automations.runs.deciding import course, told
from ringfence_automations.runs.deciding.plan import Repeat, WaitEvent, WaitFor, Work
from ringfence_automations.runs.starting import Skipped
from ringfence_automations.runs.tables import kept_output, runs_table, steps_table
from ringfence_automations.service import StepRequest, StepResult
from sqlalchemy import text

from tests.automations.runs.conductor import Conductor, Gate, by_hand, do_well, elsewhere
from tests.automations.runs.course_world import Given, always


@dataclass(frozen=True)
class Event:
    hook: str
    payload: dict[str, Any]
    position: int


async def nobody_refused(name: str, revision: int, hook: str) -> str | None:
    return None


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


async def settled(conductor: Conductor, *runs: UUID) -> list[str]:
    return [(await conductor.ended(run)).status for run in runs]


async def statuses(conductor: Conductor, *runs: UUID) -> list[str]:
    return [(await conductor.run(run)).status for run in runs]


async def test_nothing_starts_twice_for_the_same_event(conductor: Conductor) -> None:
    conductor.score.have(work("a"), mode=Mode.PARALLEL, most=10)
    starts = [conductor.start(once_key="event/7") for _ in range(5)]
    runs = set(await asyncio.gather(*starts))
    assert len(runs) == 1
    await conductor.ended(next(run for run in runs if isinstance(run, UUID)))
    assert await conductor.start(once_key="event/7") in runs
    assert conductor.score.performed == [("a", 1)]


async def test_a_single_one_skips_what_comes_while_it_is_under_way_and_that_is_recorded(
    conductor: Conductor,
) -> None:
    gate = conductor.score.doing["a"] = Gate()
    conductor.score.have(work("a"), mode=Mode.SINGLE)
    first = await conductor.begun()
    skipped = await conductor.start(once_key="e")
    assert isinstance(skipped, Skipped)
    assert skipped.run is not None
    assert skipped.why == "another run is under way"
    assert await conductor.start(once_key="e") == skipped
    assert (await conductor.run(skipped.run)).status == "skipped"
    gate.open.set()
    assert await settled(conductor, first) == ["succeeded"]
    assert await settled(conductor, await conductor.begun()) == ["succeeded"]


async def test_those_in_a_queue_begin_in_their_order(conductor: Conductor) -> None:
    gate = conductor.score.doing["a"] = Gate()
    conductor.score.have(work("a"), work("b"), mode=Mode.QUEUED)
    runs = [await conductor.begun(event={"n": number}) for number in range(4)]
    assert await statuses(conductor, *runs) == ["running", "queued", "queued", "queued"]
    assert await conductor.cancel_run(runs[2])
    gate.open.set()
    assert await settled(conductor, *runs) == ["succeeded", "succeeded", "cancelled", "succeeded"]
    never = dt.datetime.max.replace(tzinfo=dt.UTC)
    begins = [(await conductor.run(run)).started_at for run in runs]
    ends = [(await conductor.run(run)).ended_at for run in runs]
    assert begins[2] is None
    assert (begins[1] or never) >= (ends[0] or never)
    assert (begins[3] or never) >= (ends[1] or never)


async def test_only_so_many_are_under_way_in_parallel(conductor: Conductor) -> None:
    gate = conductor.score.doing["a"] = Gate()
    conductor.score.have(work("a"), mode=Mode.PARALLEL, most=2)
    runs = [await conductor.begun() for _ in range(4)]
    assert await statuses(conductor, *runs) == ["running", "running", "queued", "queued"]
    gate.open.set()
    assert await settled(conductor, *runs) == ["succeeded"] * 4


async def test_a_restart_ends_the_one_under_way_and_waits_for_its_end(conductor: Conductor) -> None:
    conductor.score.doing["a"] = elsewhere
    conductor.score.have(work("a"), mode=Mode.RESTART)
    first = await conductor.begun()
    await conductor.performing(("a", 1))
    second = await conductor.begun()
    third = await conductor.begun()

    async def is_told() -> bool:
        return ("a", 1) in conductor.score.ended

    assert await eventually(is_told)
    assert (await conductor.ended(second)).message == "a later run has taken its place"
    assert await statuses(conductor, first, third) == ["running", "queued"]
    await conductor.tell(first, "a", StepResult(ok=False, message="killed"))
    conductor.score.doing["a"] = do_well
    assert await settled(conductor, first, second, third) == ["cancelled", "cancelled", "succeeded"]


async def test_runs_of_different_keys_do_not_wait_for_each_other(conductor: Conductor) -> None:
    gate = conductor.score.doing["a"] = Gate()
    conductor.score.have(work("a"), mode=Mode.QUEUED, key=Given(lambda v: v["event"]["host"]))
    runs = [await conductor.begun(event={"host": host}) for host in ("x", "y", "x")]
    assert await statuses(conductor, *runs) == ["running", "running", "queued"]
    gate.open.set()
    assert await settled(conductor, *runs) == ["succeeded"] * 3


async def test_more_than_may_wait_are_refused_and_that_is_said(
    conductor: Conductor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "MAX_WAITING", 1)
    gate = conductor.score.doing["a"] = Gate()
    conductor.score.have(work("a"), mode=Mode.QUEUED)
    runs = [await conductor.begun() for _ in range(2)]
    refused = await conductor.start()
    assert isinstance(refused, Skipped)
    assert refused.why == "refused: 1 runs of this automation wait already"
    gate.open.set()
    assert await settled(conductor, *runs) == ["succeeded"] * 2


async def test_conditions_that_do_not_hold_start_nothing(conductor: Conductor) -> None:
    conductor.score.have(work("a"), conditions=(always(True), always(False)))
    assert await conductor.start() == Skipped(None, "its conditions do not hold")


@pytest.mark.parametrize("where", ["conditions", "key"])
async def test_what_cannot_be_evaluated_at_the_start_is_told_by_a_failed_run(
    conductor: Conductor, where: str
) -> None:
    wrong = Given(lambda v: v["event"]["host"])
    conductor.score.have(work("a"), **({"conditions": (wrong,)} if where == "conditions" else {"key": wrong}))
    ended = await conductor.ended(await conductor.begun())
    assert (ended.status, ended.message) == ("failed", "line 3: 'host' is not there")
    assert conductor.score.performed == []


async def test_what_was_to_start_a_run_and_failed_is_told_by_a_failed_run(conductor: Conductor) -> None:
    conductor.score.have(work("a"), conditions=(always(False),))
    ended = await conductor.ended(await conductor.begun(failure="trigger 2: its filter failed"))
    assert (ended.status, ended.message) == ("failed", "trigger 2: its filter failed")


async def test_automations_do_not_start_each_other_for_ever(conductor: Conductor) -> None:
    conductor.score.have(work("a"))
    ended = await conductor.ended(await conductor.begun(trigger=by_hand(depth=9)))
    assert ended.message == "it was started by 9 automations, one by the other, and there may be 8"


async def test_a_cancelled_run_ends_its_work_where_it_is_done(conductor: Conductor) -> None:
    gate = conductor.score.doing["a"] = Gate()
    conductor.score.have(work("a"), work("b"))
    run = await conductor.begun()
    await conductor.performing(("a", 1))
    assert await conductor.cancel_run(run)
    assert not await conductor.cancel_run(run)
    ended = await conductor.ended(run)
    assert (ended.status, ended.message, ended.cancelled_by) == ("cancelled", "cancelled by ann", "ann")
    assert gate.cancelled
    assert await conductor.steps(run) == [("a", 1, "cancelled")]


async def test_a_step_that_goes_on_elsewhere_ends_when_that_is_told_once(conductor: Conductor) -> None:
    conductor.score.doing["a"] = elsewhere
    conductor.score.have(work("a"), work("b", when=Given(lambda v: v["artifacts"]["a"]["code"] == 0)))
    run = await conductor.begun()
    await conductor.performing(("a", 1))
    await conductor.tell(run, "a", StepResult(ok=True, artifact={"code": 0}))
    await conductor.tell(run, "a", StepResult(ok=False, artifact={"code": 9}))
    assert await settled(conductor, run) == ["succeeded"]
    assert await conductor.steps(run) == [("a", 1, "succeeded"), ("b", 1, "succeeded")]


async def test_the_result_of_an_attempt_that_was_given_up_is_kept_and_changes_nothing(
    conductor: Conductor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TIMEOUT_GRACE_SECONDS", "TIMEOUT_PATIENCE_SECONDS"):
        monkeypatch.setattr(course, name, 0.0)
    conductor.score.doing["a"] = elsewhere
    conductor.score.have(work("a", timeout=0.2))
    run = await conductor.begun()
    assert (await conductor.ended(run)).message == (
        f"step a: it took longer than 0.2 seconds; {told.NOT_KNOWN_TO_HAVE_ENDED}"
    )
    await conductor.tell(run, "a", StepResult(ok=True, artifact={"code": 0}))
    async with conductor.context.sessions() as session:
        [step] = await steps_table.shown(session, run, after=0, limit=10)
    assert (step.status, step.artifact, step.has_late) == ("failed", None, True)


async def test_an_artifact_that_is_too_large_fails_its_step(conductor: Conductor) -> None:
    conductor.score.doing["a"] = elsewhere
    conductor.score.have(work("a"))
    run = await conductor.begun()
    await conductor.performing(("a", 1))
    await conductor.tell(
        run, "a", StepResult(ok=True, artifact={"text": "x" * engine_module.MAX_ARTIFACT_BYTES})
    )
    assert (await conductor.ended(run)).message == (
        "step a: what it gave back is too large: an artifact may have 262144 bytes"
    )


async def test_all_artifacts_of_a_run_have_a_bound_together(
    conductor: Conductor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "MAX_RUN_ARTIFACT_BYTES", 100)

    async def long(request: StepRequest) -> StepResult:
        return StepResult(ok=True, artifact={"text": "x" * 60})

    conductor.score.doing.update(a=long, b=long)
    conductor.score.have(work("a"), work("b"))
    ended = await conductor.ended(await conductor.begun())
    assert ended.message == (
        "step b: what it gave back is too large: all artifacts of a run together may have 100 bytes"
    )


async def test_a_wait_hears_what_happens_after_it_has_begun_and_nothing_before(conductor: Conductor) -> None:
    conductor.score.have(
        WaitEvent(
            id="w", hook="thing-done", filter=Given(lambda v: v["event"]["name"] == v["inputs"]["name"])
        ),
        work("a", when=Given(lambda v: v["artifacts"]["w"]["event"]["code"] == 5)),
    )
    run = await conductor.begun(inputs={"name": "x"})

    async def waits() -> list[tuple[str, int, str]]:
        return await conductor.steps(run)

    assert await eventually(waits) == [("w", 1, "waiting")]
    async with conductor.context.sessions.begin() as session:
        assert await conductor.engine.awaited_hooks(session) == {"thing-done"}
        end = (await steps_table.newest(session, run))["w"].heard_after
        assert end is not None
        for position, hook, name in (
            (end, "thing-done", "x"),  # before the wait
            (end + 1, "other-thing", "x"),
            (end + 2, "thing-done", "y"),
        ):
            event = Event(hook, {"name": name, "code": 1}, position)
            await conductor.engine.event(session, event, nobody_refused)
    assert await conductor.steps(run) == [("w", 1, "waiting")]
    async with conductor.context.sessions.begin() as session:
        last = Event("thing-done", {"name": "x", "code": 5}, end + 3)
        await conductor.engine.event(session, last, nobody_refused)
    assert await settled(conductor, run) == ["succeeded"]
    assert ("a", 1) in conductor.score.performed


async def test_a_filter_that_fails_fails_its_wait(conductor: Conductor) -> None:
    conductor.score.have(WaitEvent(id="w", hook="thing-done", filter=Given(lambda v: v["event"]["name"])))
    run = await conductor.begun()

    async def waits() -> list[tuple[str, int, str]]:
        return await conductor.steps(run)

    await eventually(waits)
    async with conductor.context.sessions.begin() as session:
        await conductor.engine.event(session, Event("thing-done", {}, 10**9), nobody_refused)
    assert (await conductor.ended(run)).message == "step w: line 3: 'name' is not there"


async def test_an_event_that_is_waited_for_counts_as_an_artifact(conductor: Conductor) -> None:
    conductor.score.have(WaitEvent(id="w", hook="thing-done"))
    sizes = {}
    for size in (1000, 300_000):
        run = await conductor.begun()

        async def waits(run: UUID = run) -> list[tuple[str, int, str]]:
            return await conductor.steps(run)

        await eventually(waits)
        async with conductor.context.sessions.begin() as session:
            await conductor.engine.event(
                session, Event("thing-done", {"name": "x" * size}, 10**9), nobody_refused
            )
            facts = await runs_table.lock(session, run)
        assert facts is not None
        sizes[size] = facts.artifact_bytes
        ended = await conductor.ended(run)
        assert (ended.status == "failed") == (size > 1000)
    assert "the event is too large: an artifact may have 262144 bytes" in str(ended.message)
    assert (sizes[1000] > 1000, sizes[300_000]) == (True, 0)


async def test_a_run_follows_the_revision_with_which_it_began(conductor: Conductor) -> None:
    gate = conductor.score.doing["a"] = Gate()
    conductor.score.have(work("a"), work("old"), mode=Mode.QUEUED)
    first, second = await conductor.begun(), await conductor.begun()
    conductor.score.have(work("a"), work("new"), mode=Mode.QUEUED, revision=2)
    third = await conductor.begun(revision=2)
    gate.open.set()
    await settled(conductor, first, second, third)
    assert [path for path, _ in conductor.score.performed] == ["a", "old", "a", "old", "a", "new"]


async def test_a_run_whose_revision_is_gone_fails_and_says_so(conductor: Conductor) -> None:
    conductor.score.doing["a"] = elsewhere
    conductor.score.have(work("a"))
    run = await conductor.begun()
    await conductor.performing(("a", 1))
    del conductor.score.plans["a", 1]
    await conductor.tell(run, "a", StepResult(ok=True))
    assert (await conductor.ended(run)).message == "there is no revision 1 of a"


async def test_a_step_of_a_run_that_has_ended_is_not_begun(conductor: Conductor) -> None:
    conductor.score.have(work("a"))
    async with conductor.context.sessions.begin() as session:
        run = await conductor.engine.start(session, "a", 1, trigger=by_hand(), event={})
        assert isinstance(run, UUID)
        await conductor.engine.advance(session, run)
        del conductor.score.plans["a", 1]
        await conductor.engine.advance(session, run)
        conductor.score.have(work("a"))
    assert await settled(conductor, run) == ["failed"]
    conductor.score.have(work("b"), name="b")
    await conductor.ended(await conductor.begun("b"))
    assert conductor.score.performed == [("b", 1)]


async def test_all_runs_of_an_automation_can_be_ended(conductor: Conductor) -> None:
    conductor.score.doing["a"] = Gate()
    conductor.score.have(work("a"), mode=Mode.QUEUED)
    runs = [await conductor.begun() for _ in range(3)]
    async with conductor.context.sessions.begin() as session:
        assert await conductor.engine.cancel_all(session, "a", by="ann", why="a was deleted") == 3
    assert await settled(conductor, *runs) == ["cancelled"] * 3


async def test_begin_and_end_of_a_run_are_told_in_their_order(conductor: Conductor) -> None:
    conductor.score.have(work("a"))
    run = await conductor.begun()
    await conductor.ended(run)

    async def told() -> list[tuple[str, Any]]:
        async with conductor.context.sessions() as session:
            events = await read_stream(session, stream_of_run(run))
        return [(one.hook, one.payload.get("status")) for one in events] if len(events) > 1 else []

    assert await eventually(told) == [
        ("automation-run-started", None),
        ("automation-run-finished", "succeeded"),
    ]


async def test_what_has_lost_its_job_is_found_and_goes_on(
    conductor: Conductor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "OVERLOOKED_SECONDS", -10.0)
    conductor.score.have(work("a"))
    async with conductor.context.sessions.begin() as session:
        run = await conductor.engine.start(session, "a", 1, trigger=by_hand(), event={})
        await session.execute(text("DELETE FROM jobs WHERE kind = 'automations.advance-run'"))
    assert isinstance(run, UUID)
    await conductor.runs.look_after()
    assert await settled(conductor, run) == ["succeeded"]


async def test_a_step_that_has_lost_its_job_before_it_started_is_done_once(
    conductor: Conductor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "NOT_STARTED_SECONDS", -10.0)
    conductor.score.have(work("a"))
    async with conductor.context.sessions.begin() as session:
        run = await conductor.engine.start(session, "a", 1, trigger=by_hand(), event={})
        assert isinstance(run, UUID)
        await conductor.engine.advance(session, run)
        await session.execute(text("DELETE FROM jobs WHERE kind = 'automations.perform-step'"))
    await conductor.runs.look_after()
    assert await settled(conductor, run) == ["succeeded"]
    assert conductor.score.performed == [("a", 1)]


async def test_those_who_wait_for_nobody_any_more_are_found_and_begin(conductor: Conductor) -> None:
    conductor.score.doing["a"] = elsewhere
    conductor.score.have(work("a"), mode=Mode.QUEUED)
    gone, waiting = await conductor.begun(), await conductor.begun()
    await conductor.performing(("a", 1))
    conductor.score.doing["a"] = do_well
    await conductor.do("DELETE FROM automations_runs WHERE id = :id", id=gone)
    await conductor.runs.look_after()
    assert await settled(conductor, waiting) == ["succeeded"]


async def test_old_runs_are_forgotten_with_all_that_belongs_to_them(conductor: Conductor) -> None:
    conductor.score.doing["b"] = Gate()
    conductor.score.have(work("a"))
    conductor.score.have(work("b"), name="b")
    old, under_way = await conductor.begun(), await conductor.begun("b")
    await conductor.ended(old)
    await conductor.runs.write_output(old, "a", 1, [("stdout", "hello\n")])
    await conductor.do(
        "UPDATE automations_runs SET ended_at = ended_at - interval '2 hours' WHERE ended_at < now()"
    )
    await conductor.runs.forget()
    async with conductor.context.sessions() as session:
        left = await runs_table.listed(session, automation=None, status=None, key=None, before=None, limit=10)
    assert [one.id for one in left] == [under_way]
    await conductor.cancel_run(under_way)


async def test_what_a_run_writes_is_kept_up_to_a_bound(
    conductor: Conductor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_output, "MAX_RUN_BYTES", 10)
    conductor.score.have(work("a"))
    run = await conductor.begun()
    await conductor.runs.write_output(
        run, "a", 1, [("stdout", "12345\n"), ("stderr", "\0234567"), ("stdout", "x")]
    )
    async with conductor.context.sessions() as session:
        pieces = await kept_output.read(session, run, after=0, limit=10)
    assert [(one.stream, one.text) for one in pieces] == [
        ("stdout", "12345\n"),
        ("stderr", kept_output.CUT_OFF),
    ]
    await conductor.runs.write_output(UUID(int=7), "a", 1, [("stdout", "of nobody")])
    await conductor.ended(run)
