"""Events start automations: those that match, each once, in the transaction in which the event is handled."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from ringfence.eventlog.groups import membership
from ringfence.testing import RunHost, eventually
from ringfence_automations.definitions.definition import Definition
from ringfence_automations.hooks import automation_run_finished
from ringfence_automations.runs.starting import MAX_DEPTH
from ringfence_automations.runs.tables import runs_table
from ringfence_automations.runs.tables.runs_table import Run
from ringfence_automations.triggers import hearing, loading
from ringfence_satellite.hooks import SatelliteRunFinished, satellite_run_finished

from tests.automations.runs.conductor import Score
from tests.automations.triggers.conftest import secrets
from tests.automations.triggers.machine import Machine, cracked, hidden, rung

ON_RUNG: dict[str, Any] = {"hook": rung.name}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "TICK_SECONDS", 0.05)


def numbers(runs: list[Run]) -> list[int]:
    return [one.event["n"] for one in runs]


async def test_an_event_starts_each_automation_that_it_matches_once(machine: Machine) -> None:
    await machine.apply("all", ON_RUNG, mode="parallel")
    await machine.apply("loud", {**ON_RUNG, "filter": "event.loud && trigger.hook == 'bell-rung'"})
    # Both of its triggers match: it starts once.
    await machine.apply(
        "twice", {**ON_RUNG, "filter": "event.n > 1"}, {**ON_RUNG, "filter": "event.n > 0"}, mode="parallel"
    )
    await machine.apply("other", {"hook": cracked.name})
    await machine.apply("disabled", ON_RUNG, enabled=False)
    inputs = {"times": {"type": "integer", "default": 3}}
    await machine.apply("defaults", ON_RUNG, inputs=inputs, mode="parallel")
    await machine.ring(1)
    await machine.ring(2, loud=True)
    await machine.ring(3, hook=cracked)
    await machine.settled()
    assert numbers(await machine.begun_by("all", 2)) == [1, 2]
    assert numbers(await machine.begun_by("twice", 2)) == [1, 2]
    [loud] = await machine.begun_by("loud", 1)
    assert loud.event == {"n": 2, "loud": True, "tower": None}
    assert (loud.trigger["kind"], loud.trigger["hook"]) == ("hook", "bell-rung")
    assert numbers(await machine.begun_by("other", 1)) == [3]
    assert await machine.shown("disabled") == []
    assert (await machine.begun_by("defaults", 1))[0].inputs == {"times": 3}


async def test_what_happened_before_an_automation_was_there_or_enabled_starts_nothing(
    machine: Machine,
) -> None:
    await machine.ring(1)
    await machine.apply("late", ON_RUNG, mode="queued")
    await machine.ring(2)
    await machine.settled()
    await machine.apply("late", ON_RUNG, enabled=False, mode="queued")
    await machine.ring(3)
    await machine.apply("late", ON_RUNG, mode="queued")
    await machine.ring(4)
    await machine.settled()
    await machine.delete("late")
    await machine.ring(5)
    await machine.apply("late", {**ON_RUNG, "filter": "event.n != 7"}, mode="queued")
    await machine.ring(6, 7)
    await machine.ring(8)
    await machine.settled()
    assert numbers(await machine.begun_by("late", 4)) == [2, 4, 6, 8]


async def test_a_filter_that_fails_makes_a_failed_run_that_says_so_once_a_minute(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await machine.apply("wrong", {**ON_RUNG, "filter": "100 / event.n > 1"}, mode="parallel")
    # What it asks for is not there: that is no failure.
    await machine.apply("missing", {**ON_RUNG, "filter": "event.nothing == 1"})
    await machine.ring(0, 0, 0, 5)
    await machine.ring(0)
    await machine.settled()
    found = await machine.begun_by("wrong", 2)
    # Or two, if the minute was over meanwhile.
    failed = [one for one in found if one.event["n"] == 0]
    assert 1 <= len(failed) <= 2
    ended = await machine.ended(failed[0].id)
    assert ended.status == "failed"
    assert ended.message is not None
    assert ended.message.startswith("the filter of trigger 1 failed: ")
    assert numbers([one for one in found if one not in failed]) == [5]
    assert await machine.shown("missing") == []


async def test_an_automation_is_not_told_what_whom_it_acts_for_may_not_see(machine: Machine) -> None:
    await machine.apply("nosy", {"hook": hidden.name}, mode="parallel")
    await machine.ring(1, hook=hidden)
    [run] = await machine.begun_by("nosy", 1)
    ended = await machine.ended(run.id)
    assert (ended.status, await machine.steps(run.id)) == ("failed", [])
    assert ended.message == (
        "admin does not hold the access rule probe.bell.hear, which shows events of bell-hidden"
    )
    machine.held.add("probe.bell.hear")
    await machine.ring(2, hook=hidden)
    assert (await machine.ended((await machine.begun_by("nosy", 2))[-1].id)).status == "succeeded"


async def test_a_step_that_waits_is_not_told_what_whom_it_acts_for_may_not_see(machine: Machine) -> None:
    waits = [{"wait": {"event": {"hook": hidden.name}}}]
    await machine.apply("nosy", ON_RUNG, mode="parallel", steps=waits)
    machine.waiting_for("nosy", hidden.name)
    told = {}
    for number, held in enumerate([set(), {"probe.bell.hear"}], 1):
        machine.held |= held
        await machine.ring(number)
        run = (await machine.begun_by("nosy", number))[-1]
        await machine.waits_in(run.id)
        await machine.ring(7, hook=hidden)
        told[number] = await machine.ended(run.id)
    assert [one.status for one in told.values()] == ["failed", "succeeded"]
    assert "admin does not hold the access rule probe.bell.hear" in str(told[1].message)


async def test_automations_that_start_each_other_come_to_an_end_that_says_so(machine: Machine) -> None:
    await machine.apply("echo", ON_RUNG, {"hook": automation_run_finished.name}, mode="queued")
    await machine.ring(1)
    found = await machine.begun_by("echo", MAX_DEPTH + 2)
    last = await machine.ended(found[-1].id)
    assert [one.depth for one in found] == list(range(MAX_DEPTH + 2))
    assert last.status == "failed"
    assert "started by 9 automations, one by the other" in str(last.message)
    # That it has ended was heard, and starts nothing.
    await machine.ring(2, hook=cracked)
    await machine.settled()
    assert len(await machine.shown("echo")) == MAX_DEPTH + 2


async def test_an_automation_that_its_own_script_on_a_satellite_starts_is_counted(machine: Machine) -> None:
    machine.held.add(str(satellite_run_finished.payload_rule))
    await machine.apply("echo", {"hook": satellite_run_finished.name}, mode="parallel")

    async def finish(run: UUID) -> None:
        fact = SatelliteRunFinished(satellite_id=uuid4(), run_id=run, outcome="finished", exit_code=0)
        await machine.context.emit_hook(satellite_run_finished, fact, standalone=True)

    await finish(uuid4())
    [first] = await machine.begun_by("echo", 1)
    asked = uuid4()
    await machine.do(
        """INSERT INTO automations_elsewhere VALUES
           (:run, 'look', 1, 'echo', 1, '', '', false, 1, 0, 60, now(), false, true)""",
        run=first.id,
    )
    await machine.do(
        """INSERT INTO automations_places (run_id, path, attempt, place, satellite_id, name, satellite_run, state)
           VALUES (:run, 'look', 1, 0, gen_random_uuid(), 'edge', :asked, 'succeeded')""",
        run=first.id,
        asked=asked,
    )
    await finish(asked)
    assert [one.depth for one in await machine.begun_by("echo", 2)] == [0, 1]


async def test_a_step_goes_on_when_the_event_comes_for_which_it_waits(machine: Machine) -> None:
    """Though no automation is triggered by that, and the one that waits is disabled meanwhile."""
    waits = [{"wait": {"event": {"hook": cracked.name}}}]
    await machine.apply("patient", ON_RUNG, steps=waits)
    machine.waiting_for("patient", cracked.name)
    await machine.ring(1)
    [run] = await machine.begun_by("patient", 1)

    await machine.waits_in(run.id)
    await machine.apply("patient", ON_RUNG, steps=waits, enabled=False)
    await machine.ring(2, hook=cracked)
    assert (await machine.ended(run.id)).status == "succeeded"


async def test_a_fleet_starts_one_run_for_each_event(
    run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while definitions change, and one instance knows of that later than the others."""
    score = Score()
    machines = [Machine(score) for _ in range(2)]
    for one in machines:
        await run_host(plugins=[secrets(), one])
    await machines[0].apply("all", ON_RUNG, mode="parallel", max=100)
    for n in range(20):
        await machines[n % 2].ring(n)
        if n % 5 == 0:
            await machines[0].apply(
                "all", {**ON_RUNG, "filter": f"event.n > {n} - 100"}, mode="parallel", max=100
            )
    assert numbers(await machines[1].begun_by("all", 20)) == [*range(20)]


async def test_an_instance_without_a_copy_to_be_believed_reads(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = 0
    load = loading.load

    async def counted(*given: Any) -> Any:
        nonlocal loads
        loads += 1
        return await load(*given)

    monkeypatch.setattr(hearing, "load", counted)
    await machine.apply("all", ON_RUNG, mode="queued")
    machine.triggers.hearing._copy.forget()
    await machine.ring(1)
    assert numbers(await machine.begun_by("all", 1)) == [1]
    assert loads == 1


async def test_whoever_starts_runs_and_whom_an_event_lets_go_on_do_not_wait_for_each_other(
    machine: Machine,
) -> None:
    """A start has the key of its automation, and then wants the run that waits for the same event."""
    waits = [{"wait": {"event": {"hook": cracked.name}}}]
    await machine.apply("patient", ON_RUNG, {"hook": cracked.name}, mode="parallel", steps=waits)
    machine.waiting_for("patient", cracked.name)
    await machine.ring(1)
    [run] = await machine.begun_by("patient", 1)
    await machine.waits_in(run.id)
    async with machine.context.sessions.begin() as starting:
        await runs_table.lock_key(starting, "patient", "")
        await machine.ring(2, hook=cracked)
        assert await eventually(lambda: machine.somebody_waits_for_the_key("patient"))
        assert await machine.can_be_locked(starting, run.id)
    assert (await machine.ended(run.id)).status == "succeeded"
    assert len(await machine.begun_by("patient", 2)) == 2


async def test_an_automation_that_starts_too_often_is_paused_and_a_failed_run_says_so(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.runs._upkeep, "_most_an_hour", 3)
    await machine.apply("loop", {"hook": rung.name}, mode="parallel", max=100)
    await machine.apply("calm", {"hook": rung.name, "filter": "event.n == 1"}, mode="parallel")
    await machine.settled()
    await machine.ring(1, 2, 3)
    await machine.begun_by("loop", 3)
    await machine.begun("loop")  # people may start it as often as they like
    await machine.runs.look_after()
    assert await enabled(machine) == {"loop": True, "calm": True, "sentinel": True}
    await machine.ring(4)
    await machine.begun_by("loop", 5)
    await machine.runs.look_after()
    assert await enabled(machine) == {"loop": False, "calm": True, "sentinel": True}
    paused = (await machine.shown("loop"))[-1]
    assert (paused.status, "more than 3 times within an hour" in (paused.message or "")) == ("failed", True)
    # Whoever enables it again has another hour's worth.
    async with machine.context.sessions.begin() as session:
        await machine.automations.turn(session)
        await machine.automations.enable(session, "loop", True, by="me")
    await machine.runs.look_after()
    assert await enabled(machine) == {"loop": True, "calm": True, "sentinel": True}


async def enabled(machine: Machine) -> dict[str, bool]:
    async with machine.context.sessions() as session:
        return {one.definition.name: one.definition.enabled for one in await machine.automations.all(session)}


def test_a_hook_may_be_called_by_the_name_that_people_have_for_it() -> None:
    definition = Definition.model_validate(
        {
            "name": "a",
            "triggers": [{"hook": "satellite-lost"}],
            "steps": [{"wait": {"event": {"hook": "satellite-lost"}}}],
        }
    )
    written = definition.to_wire()
    assert written["triggers"][0]["hook"] == "satellite-heartbeat-lost"
    assert written["steps"][0]["wait"]["event"]["hook"] == "satellite-heartbeat-lost"
