"""What an agent does about the runs that it is asked for: each is run once, and its result arrives."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ringfence.sandbox import DEFAULT_POLICY
from ringfence.scripts import RunResult, ScriptKind, ScriptRequest
from ringfence_satellite.agent.policy_state import AppliedPolicy
from ringfence_satellite.agent.running.runs import CANCELLED, STOPPED
from ringfence_satellite.agent.settings import AgentSettings
from ringfence_satellite.protocol import Authenticated, CancelRun, CloseCode, ResultAck, RunScript

from tests.satellite.cores import ScriptedCore, Visit, scripted_core
from tests.satellite.test_agent_connection import result_under, serving
from tests.waiting import until


@dataclass(slots=True)
class Scripts:
    """Stands for the shared runner: a script is at work until it is let go, and leaves when it is cancelled."""

    policy: AppliedPolicy
    begun: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, request: ScriptRequest) -> RunResult:
        script = str(request.script)
        self.begun.append(script)
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(script)
            raise
        return result_under(self.policy, stdout=script)


@pytest.fixture
async def core() -> AsyncIterator[ScriptedCore]:
    async with scripted_core() as core:
        yield core


@pytest.fixture
def policy() -> AppliedPolicy:
    return AppliedPolicy()


@pytest.fixture
def scripts(policy: AppliedPolicy) -> Scripts:
    return Scripts(policy)


@pytest.fixture
def settings(core: ScriptedCore, tmp_path: Path) -> AgentSettings:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    return AgentSettings((core.url,), "satellite-1", token, heartbeat_seconds=0.02)


@asynccontextmanager
async def at_work(settings: AgentSettings, scripts: Scripts) -> AsyncIterator[None]:
    async with serving(settings, scripts.policy, scripts.run):
        yield


async def let_in(core: ScriptedCore, *, keeps_runs: bool = True) -> Visit:
    visit = await core.visit()
    policy = DEFAULT_POLICY.to_wire()
    await visit.send(
        Authenticated(
            satellite_id="s", sandbox_policy=policy, sandbox_policy_revision=1, keeps_runs=keeps_runs
        )
    )
    await visit.hear("sandbox_policy_applied")
    return visit


def script(run_id: str, text: str | None = None) -> RunScript:
    return RunScript(run_id=run_id, kind=ScriptKind.SHELL, script=text or run_id, timeout_ms=1000)


async def test_a_run_goes_on_without_the_connection_and_its_result_is_sent_until_it_is_acknowledged(
    core: ScriptedCore, settings: AgentSettings, scripts: Scripts
) -> None:
    async with at_work(settings, scripts):
        first = await let_in(core)
        assert first.authenticate["runs"] == []
        await first.send(script("r1"))
        assert (await first.hear("run_accepted"))["runId"] == "r1"
        first.socket.transport.abort()

        second = await let_in(core)
        assert second.authenticate["runs"] == ["r1"]
        assert second.authenticate["process"] == first.authenticate["process"]
        scripts.let_go.set()
        told = await second.hear("run_result")
        assert (told["runId"], told["stdout"], told["resultId"]) == ("r1", "r1", "r1")
        second.socket.transport.abort()

        third = await let_in(core)
        assert third.authenticate["runs"] == ["r1"]
        assert await third.hear("run_result") == told
        await third.send(ResultAck(result_id="r1"))
        await until(lambda: not list(settings.runs_dir.glob("*.json")))
        third.socket.transport.abort()
        assert (await let_in(core)).authenticate["runs"] == []
    assert scripts.begun == ["r1"]
    assert not scripts.cancelled


async def test_a_run_that_is_handed_over_again_is_run_once(
    core: ScriptedCore, settings: AgentSettings, scripts: Scripts
) -> None:
    async with at_work(settings, scripts):
        visit = await let_in(core)
        for _ in range(2):
            await visit.send(script("r1"))
            await visit.hear("run_accepted")
        visit.socket.transport.abort()
        visit = await let_in(core)
        await visit.send(script("r1"))
        await visit.hear("run_accepted")
        scripts.let_go.set()
        await visit.hear("run_result")
        # While its result waits, and after that was settled.
        await visit.send(script("r1"))
        await visit.hear("run_accepted")
        await visit.send(ResultAck(result_id="r1"))
        await until(lambda: not list(settings.runs_dir.glob("*.json")))
        await visit.send(script("r1"))
        await visit.hear("run_accepted")
        await visit.send(script("r2"))
        assert (await visit.hear("run_result"))["runId"] == "r2"
    assert scripts.begun == ["r1", "r2"]


async def test_a_run_is_cancelled_and_says_so_and_others_go_on(
    core: ScriptedCore, settings: AgentSettings, scripts: Scripts
) -> None:
    async with at_work(settings, scripts):
        visit = await let_in(core)
        for name in ("r1", "r2"):
            await visit.send(script(name))
        await until(lambda: scripts.begun == ["r1", "r2"])
        await visit.send(CancelRun(run_id="nobody-knows"))
        await visit.send(CancelRun(run_id="r1"))
        told = await visit.hear("run_result")
        assert (told["runId"], told["error"], told["cause"]) == ("r1", CANCELLED, "cancelled")
        assert scripts.cancelled == ["r1"]
        scripts.let_go.set()
        told = await visit.hear("run_result")
        assert (told["runId"], told["stdout"]) == ("r2", "r2")


async def test_a_core_that_keeps_no_runs_is_sent_results_without_waiting_for_more(
    core: ScriptedCore, settings: AgentSettings, scripts: Scripts
) -> None:
    async with at_work(settings, scripts):
        visit = await let_in(core, keeps_runs=False)
        await visit.send(script("r1"))
        await until(lambda: scripts.begun == ["r1"])
        scripts.let_go.set()
        told = await visit.hear("run_result")
        assert (told["runId"], "resultId" in told) == ("r1", False)
        assert not list(settings.runs_dir.glob("*.json"))
        scripts.let_go.clear()
        await visit.send(script("r2"))
        await until(lambda: scripts.begun == ["r1", "r2"])
        visit.socket.transport.abort()
        await until(lambda: scripts.cancelled == ["r2"])
        assert (await let_in(core)).authenticate["runs"] == []


async def test_what_a_core_keeps_waits_while_the_agent_is_with_one_that_does_not(
    core: ScriptedCore, settings: AgentSettings, scripts: Scripts
) -> None:
    async with at_work(settings, scripts):
        visit = await let_in(core)
        await visit.send(script("r1"))
        await visit.hear("run_accepted")
        visit.socket.transport.abort()
        older = await let_in(core, keeps_runs=False)
        scripts.let_go.set()
        await until(lambda: list(settings.runs_dir.glob("*.json")))
        await older.hear("heartbeat")
        older.socket.transport.abort()
        newer = await let_in(core)
        assert (await newer.hear("run_result"))["runId"] == "r1"
        while not older.said.empty():
            assert older.said.get_nowait()["type"] != "run_result"


async def test_a_stopped_agent_says_which_runs_end_with_it_and_keeps_that_until_it_is_acknowledged(
    core: ScriptedCore, settings: AgentSettings, scripts: Scripts
) -> None:
    async with at_work(settings, scripts):
        visit = await let_in(core)
        await visit.send(script("r1"))
        await visit.hear("run_accepted")
        await until(lambda: scripts.begun == ["r1"])
    told = await visit.hear("run_result")
    assert (told["error"], told["cause"]) == (STOPPED, "stopped")
    assert (await visit.closed())[0] == CloseCode.NORMAL
    async with at_work(settings, scripts):
        again = await let_in(core)
        assert again.authenticate["process"] != visit.authenticate["process"]
        assert again.authenticate["runs"] == ["r1"]
        assert (await again.hear("run_result"))["cause"] == "stopped"


async def test_an_agent_that_is_none_of_the_cores_any_more_ends_its_runs(
    core: ScriptedCore, settings: AgentSettings, scripts: Scripts
) -> None:
    async with at_work(settings, scripts):
        visit = await let_in(core)
        await visit.send(script("r1"))
        await until(lambda: scripts.begun == ["r1"])
        await visit.socket.close(CloseCode.REVOKED, "this satellite was deleted")
        await until(lambda: scripts.cancelled == ["r1"])


async def test_a_result_that_cannot_be_kept_is_sent_all_the_same(
    core: ScriptedCore, settings: AgentSettings, scripts: Scripts
) -> None:
    async with at_work(settings, scripts):
        visit = await let_in(core)
        await visit.send(script("r1"))
        await until(lambda: scripts.begun == ["r1"])
        await asyncio.to_thread(shutil.rmtree, settings.runs_dir)
        scripts.let_go.set()
        assert (await visit.hear("run_result"))["stdout"] == "r1"


async def test_a_run_whose_id_cannot_name_a_file_is_kept_all_the_same(
    core: ScriptedCore, settings: AgentSettings, scripts: Scripts
) -> None:
    scripts.let_go.set()
    async with at_work(settings, scripts):
        visit = await let_in(core)
        await visit.send(script("../../r1", "x"))
        told = await visit.hear("run_result")
        assert told["runId"] == "../../r1"
        [file] = settings.runs_dir.glob("*.json")
        assert told["resultId"] in file.name
        await visit.send(ResultAck(result_id=told["resultId"]))
        await until(lambda: not list(settings.runs_dir.glob("*.json")))
