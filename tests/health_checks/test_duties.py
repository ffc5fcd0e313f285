"""An agent and what it is assigned, against a core whose every frame is chosen here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from ringfence.scripts import RunResult, ScriptKind, ScriptRequest
from ringfence.testing import eventually
from ringfence_satellite.agent.policy_state import AppliedPolicy
from ringfence_satellite.agent.scheduled.states import KeptStates
from ringfence_satellite.agent.settings import AgentSettings
from ringfence_satellite.protocol import (
    Assignment,
    AssignmentsChanged,
    Authenticated,
    AuthFailed,
    CloseCode,
    ConfigUpdated,
    ResultAck,
    RunScript,
    RunSecrets,
)
from ringfence_satellite.protocol.assignments import NOTHING, Assigned, difference

from tests.satellite.cores import ScriptedCore, Visit, scripted_core
from tests.satellite.test_agent_connection import result_under, serving

DUTY = Assignment(config_id="c1", system_id="web", kind=ScriptKind.SHELL, script="true", interval_seconds=0.1)


@pytest.fixture
async def core() -> AsyncIterator[ScriptedCore]:
    async with scripted_core() as core:
        yield core


@pytest.fixture
def settings(core: ScriptedCore, tmp_path: Path) -> AgentSettings:
    (tmp_path / "token").write_text("t")
    return AgentSettings((core.url,), "satellite-1", tmp_path / "token", heartbeat_seconds=0.02)


class Counted:
    """A runner that runs nothing, and remembers what it was asked for."""

    def __init__(self, policy: AppliedPolicy) -> None:
        self.policy = policy
        self.asked: list[ScriptRequest] = []

    async def __call__(self, request: ScriptRequest) -> RunResult:
        self.asked.append(request)
        return result_under(self.policy)

    async def until(self, count: int) -> None:
        async def enough() -> bool:
            return len(self.asked) >= count

        await eventually(enough)


@pytest.fixture
def runs() -> Counted:
    return Counted(AppliedPolicy())


async def let_in(
    core: ScriptedCore, *duties: Assignment | dict[str, Any], acknowledges: bool = True
) -> Visit:
    visit = await core.visit()
    wire = [one.to_wire() if isinstance(one, Assignment) else one for one in duties]
    await visit.send(Authenticated(satellite_id="s", assignments=wire, acknowledges_results=acknowledges))
    return visit


async def test_a_result_is_sent_again_until_it_is_acknowledged(
    core: ScriptedCore, settings: AgentSettings, runs: Counted
) -> None:
    async with serving(settings, runs.policy, runs):
        visit = await let_in(core, DUTY)
        first = await visit.hear("result")
        assert (first["configId"], first["systemId"], first["status"]) == ("c1", "web", "healthy")
        await visit.socket.close()
        visit = await let_in(core, DUTY)
        assert (await visit.hear("result"))["resultId"] == first["resultId"]
        await visit.send(ResultAck(result_id=first["resultId"]))
        await visit.send(ConfigUpdated(assignments=[]))
        await visit.socket.close()
        visit = await let_in(core, DUTY)
        assert (await visit.hear("result"))["resultId"] != first["resultId"]


async def test_a_core_that_does_not_acknowledge_is_told_each_result_once(
    core: ScriptedCore, settings: AgentSettings, runs: Counted
) -> None:
    seen = set()
    async with serving(settings, runs.policy, runs):
        for _ in range(3):
            visit = await let_in(core, DUTY, acknowledges=False)
            for _ in range(2):
                result_id = (await visit.hear("result"))["resultId"]
                assert result_id not in seen
                seen.add(result_id)
            await visit.socket.close()


@pytest.mark.parametrize("goodbye", ["revoked", "auth_failed"])
async def test_a_satellite_that_is_none_any_more_stops_its_work_and_takes_it_up_when_it_is_let_in(
    core: ScriptedCore, settings: AgentSettings, runs: Counted, goodbye: str
) -> None:
    async with serving(settings, runs.policy, runs):
        visit = await let_in(core, DUTY)
        await visit.hear("result")
        await visit.socket.close(CloseCode.REVOKED, "deleted")
        visit = await core.visit()
        count = len(runs.asked)
        for _ in range(40):
            if goodbye == "auth_failed":
                await visit.send(AuthFailed(reason="unknown satellite"))
            else:
                await visit.socket.close(CloseCode.REVOKED, "deleted")
            visit = await core.visit()
        assert len(runs.asked) == count
        await visit.socket.close()
        await let_in(core, DUTY)
        await runs.until(count + 2)


async def test_a_lost_core_stops_nothing(core: ScriptedCore, settings: AgentSettings, runs: Counted) -> None:
    async with serving(settings, runs.policy, runs):
        visit = await let_in(core, DUTY)
        await visit.hear("result")
        await visit.socket.close(CloseCode.TRY_LATER, "busy")
        await core.visit()
        await runs.until(len(runs.asked) + 3)


async def test_each_run_asks_for_its_secrets_and_none_is_made_without_them(
    core: ScriptedCore, settings: AgentSettings, runs: Counted
) -> None:
    guarded = DUTY.model_copy(update={"needs_secrets": True})
    async with serving(settings, runs.policy, runs):
        visit = await let_in(core, guarded)
        asked = await visit.hear("request_run_secrets")
        assert asked["configId"] == "c1"
        await visit.send(RunSecrets(request_id=asked["requestId"], env={"A": "a value"}))
        await runs.until(1)
        assert dict(runs.asked[0].secret_env or {}) == {"A": "a value"}
        asked = await visit.hear("request_run_secrets")
        await visit.send(RunSecrets(request_id=asked["requestId"], error="there is no secret A"))
        result = await visit.hear("result")
        while result["status"] == "healthy":
            await visit.send(ResultAck(result_id=result["resultId"]))
            result = await visit.hear("result")
        assert result["status"] == "unknown"
        assert "there is no secret A" in result["result"]["message"]
        assert len(runs.asked) == 1


async def test_a_run_that_is_asked_for_has_the_secrets_of_its_assignment(
    core: ScriptedCore, settings: AgentSettings, runs: Counted
) -> None:
    frame = RunScript(run_id="r", kind=ScriptKind.SHELL, script="true", config_id="c1")
    async with serving(settings, runs.policy, runs):
        visit = await let_in(core)
        await visit.send(frame)
        asked = await visit.hear("request_run_secrets")
        await visit.send(RunSecrets(request_id=asked["requestId"], env={"A": "a value"}))
        assert (await visit.hear("run_result"))["exitCode"] == 0
        assert dict(runs.asked[0].secret_env or {}) == {"A": "a value"}
        await visit.send(frame.model_copy(update={"run_id": "another"}))
        asked = await visit.hear("request_run_secrets")
        await visit.send(RunSecrets(request_id=asked["requestId"], error="no"))
        assert "secrets are not available: no" in (await visit.hear("run_result"))["error"]


async def test_what_a_newer_core_assigns_is_refused_by_name_and_the_rest_is_done(
    core: ScriptedCore, settings: AgentSettings, runs: Counted
) -> None:
    newer = {**DUTY.to_wire(), "configId": "c2", "kind": "wasm"}
    async with serving(settings, runs.policy, runs):
        visit = await let_in(core, newer, DUTY, {"nonsense": True})
        complaint = await visit.hear("strategy_error")
        assert complaint["strategyId"] == "c2"
        assert "kind" in complaint["message"]
        assert (await visit.hear("strategy_error"))["strategyId"] == "?"
        assert (await visit.hear("result"))["configId"] == "c1"


async def test_an_agent_that_was_told_what_does_not_fit_asks_for_all_and_not_again_at_once(
    core: ScriptedCore, settings: AgentSettings, runs: Counted
) -> None:
    duty = Assigned.of([DUTY.item])
    amiss = AssignmentsChanged.of(difference(duty, NOTHING))
    async with serving(settings, runs.policy, runs):
        visit = await core.visit()
        assert visit.authenticate["assignmentsHeld"] == NOTHING.digest
        await visit.send(Authenticated(satellite_id="s", assignments_digest=duty.digest))
        await visit.send(amiss)
        assert (await visit.hear("request_assignments"))["held"] == NOTHING.digest
        await visit.send(ConfigUpdated.of(duty))
        await runs.until(2)
        await visit.send(AssignmentsChanged.of(difference(NOTHING, duty)))
        for _ in range(10):
            # The next to come are heartbeats and results: it asks again only after a pause.
            assert (await visit.said.get())["type"] != "request_assignments"


async def test_what_checks_keep_goes_with_a_satellite_that_is_deleted_and_stays_with_another_token(
    core: ScriptedCore, settings: AgentSettings, runs: Counted
) -> None:
    states = KeptStates(settings.states_dir)
    states.retain(["c1"])
    await states.of("c1").save(b"state")
    async with serving(settings, runs.policy, runs):
        visit = await let_in(core, DUTY)
        await runs.until(1)
        await visit.socket.close(CloseCode.REVOKED, "the token was rotated")
        visit = await core.visit()
        assert await states.of("c1").load() == b"state"
        await visit.socket.close(CloseCode.DELETED, "deleted")
        await core.visit()
        assert list(settings.states_dir.iterdir()) == []


async def test_an_agent_goes_on_with_what_it_has_when_a_core_says_just_its_digest(
    core: ScriptedCore, settings: AgentSettings, runs: Counted
) -> None:
    async with serving(settings, runs.policy, runs):
        visit = await let_in(core, DUTY)
        await runs.until(1)
        await visit.socket.close()
        visit = await core.visit()
        digest = visit.authenticate["assignmentsHeld"]
        assert digest == Assigned.of([DUTY.item]).digest
        await visit.send(Authenticated(satellite_id="s", assignments_digest=digest))
        await runs.until(len(runs.asked) + 2)
        await visit.socket.close(CloseCode.REVOKED, "deleted")
        assert (await core.visit()).authenticate["assignmentsHeld"] == NOTHING.digest
