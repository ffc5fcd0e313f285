"""Runs over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from ringfence.testing import Host, RunHost, client
from ringfence_automations.definitions.definition import Mode
from ringfence_automations.runs.deciding.plan import Work
from ringfence_automations.runs.starting import Skipped
from ringfence_automations.service import StepResult

from tests.automations.runs.conductor import Conductor, Gate, by_hand, elsewhere

RUNS = "/api/automations/runs"
READ, RUN, MANAGE = (f"automations.automation.{action}" for action in ("read", "run", "manage"))


def work(id: str, **more: Any) -> Work:
    return Work(id=id, kind="work", body={}, **more)


@pytest.fixture
async def conductor() -> Conductor:
    return Conductor()


@pytest.fixture
async def host(run_host: RunHost, conductor: Conductor) -> Host:
    return await run_host(plugins=[conductor])


async def test_runs_are_listed_newest_first_by_pages_and_by_what_they_are(
    host: Host, conductor: Conductor
) -> None:
    conductor.score.doing["b"] = gate = Gate()
    conductor.score.have(work("a"))
    conductor.score.have(work("b"), name="b")
    done = [await conductor.begun(), await conductor.begun("b")]
    await conductor.ended(done[0])
    skipped = await conductor.start("b")
    assert isinstance(skipped, Skipped)
    async with client(host, rules=[READ]) as reader:

        async def listed(**params: Any) -> list[str]:
            found = await reader.get(RUNS, params=params)
            assert found.status_code == 200, found.text
            return [one["id"] for one in found.json()["runs"]]

        everything = [str(skipped.run), str(done[1]), str(done[0])]
        assert await listed() == everything
        assert await listed(automation="a") == [str(done[0])]
        assert await listed(status="running") == [str(done[1])]
        assert await listed(status="skipped", automation="b") == [str(skipped.run)]
        assert await listed(key="other") == []
        first = (await reader.get(RUNS, params={"limit": 2})).json()
        assert [one["id"] for one in first["runs"]] == everything[:2]
        assert await listed(limit=2, after=first["next"]) == everything[2:]
        assert (await reader.get(RUNS, params={"status": "dead"})).status_code == 422
    gate.open.set()
    await conductor.ended(done[1])


async def test_a_run_is_shown_with_its_steps_and_what_they_wrote(host: Host, conductor: Conductor) -> None:
    conductor.score.have(work("a"), work("b"))
    run = await conductor.begun(inputs={"n": 1}, actor="ann")
    await conductor.runs.write_output(run, "a", 1, [("stdout", "one\n"), ("stderr", "two\n")])
    async with client(host, rules=[READ]) as reader:
        shown = (await reader.get(f"{RUNS}/{run}", params={"wait": 20})).json()
        assert (shown["status"], shown["startedBy"], shown["inputs"]) == ("succeeded", "ann", {"n": 1})
        steps = (await reader.get(f"{RUNS}/{run}/steps")).json()
        assert [(one["path"], one["status"], one["artifact"]) for one in steps["steps"]] == [
            ("a", "succeeded", {"path": "a"}),
            ("b", "succeeded", {"path": "b"}),
        ]
        output = (await reader.get(f"{RUNS}/{run}/output", params={"limit": 1})).json()
        assert [one["text"] for one in output["output"]] == ["one\n"]
        assert not output["ended"]
        output = (
            await reader.get(f"{RUNS}/{run}/output", params={"after": output["last"], "wait": 20})
        ).json()
        assert [(one["path"], one["stream"], one["text"]) for one in output["output"]] == [
            ("a", "stderr", "two\n")
        ]
        assert output["ended"]
        assert (await reader.get(f"{RUNS}/{UUID(int=1)}")).status_code == 404
        assert (await reader.get(f"{RUNS}/{UUID(int=1)}/output")).status_code == 404


async def test_a_run_is_cancelled_by_those_who_may_run_automations(host: Host, conductor: Conductor) -> None:
    conductor.score.doing["a"] = elsewhere
    conductor.score.have(work("a"), mode=Mode.QUEUED)
    run = await conductor.begun()
    await conductor.performing(("a", 1))
    async with client(host, rules=[READ]) as reader, client(host, rules=[RUN], name="ann") as runner:
        assert (await reader.post(f"{RUNS}/{run}/cancel")).status_code == 403
        assert (await runner.post(f"{RUNS}/{run}/cancel")).status_code == 202
        await conductor.tell(run, "a", StepResult(ok=False))
        ended = await runner.post(f"{RUNS}/{run}/cancel", params={"wait": 20})
        assert (ended.status_code, ended.json()["status"], ended.json()["cancelledBy"]) == (
            200,
            "cancelled",
            "ann",
        )
        # Who may run automations, and not see them, is told how it ended, and not with what it began.
        assert (ended.json()["event"], ended.json()["inputs"]) == (None, None)
        assert (await runner.get(RUNS)).status_code == 403


async def test_the_event_is_shown_only_to_those_who_may_see_that_of_its_hook(
    host: Host, conductor: Conductor
) -> None:
    conductor.score.have(work("a"), mode=Mode.QUEUED)
    run = await conductor.begun(trigger=by_hand(hook="thing-done"), event={"name": "x"})
    other = await conductor.begun(event={"name": "y"})
    # The plugin that declared its hook is not here any more.
    orphan = await conductor.begun(trigger=by_hand(hook="no-such-hook"), event={"name": "z"})
    async with client(host, rules=[READ]) as reader, client(host, rules=[READ, MANAGE]) as manager:
        assert (await reader.get(f"{RUNS}/{run}")).json()["event"] is None
        assert (await reader.get(f"{RUNS}/{other}")).json()["event"] == {"name": "y"}
        assert (await manager.get(f"{RUNS}/{run}")).json()["event"] == {"name": "x"}
        assert (await manager.get(f"{RUNS}/{orphan}")).json()["event"] is None
    await conductor.ended(other)
