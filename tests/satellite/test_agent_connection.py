"""The agent on a real WebSocket: it connects, obeys, runs, and comes back."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox import (
    DEFAULT_POLICY,
    FAIL_CLOSED_POLICY,
    PolicyOrigin,
    PolicySnapshot,
    SandboxReport,
    overlay,
)
from ringfence.scripts import RunResult, ScriptKind, ScriptRequest
from ringfence_satellite.agent.connecting.connection import Agent
from ringfence_satellite.agent.connecting.hosts import HostAddresses, is_in_the_clear
from ringfence_satellite.agent.connecting.reconnecting import LONGEST_SECONDS, STABLE_SECONDS, Backoff
from ringfence_satellite.agent.delivering.spool import Spool
from ringfence_satellite.agent.policy_state import AppliedPolicy
from ringfence_satellite.agent.running.runner import Run, Runner, fitted
from ringfence_satellite.agent.running.runs import AskedRuns
from ringfence_satellite.agent.running.secrets import SecretRequests
from ringfence_satellite.agent.scheduled.schedule import Duties
from ringfence_satellite.agent.scheduled.states import KeptStates
from ringfence_satellite.agent.settings import AgentSettings, AgentSettingsError, websocket_url
from ringfence_satellite.protocol import (
    Authenticated,
    CloseCode,
    RunFinished,
    RunScript,
    SandboxPolicyApplied,
    SandboxPolicyPushed,
    Shutdown,
    parse_from_satellite,
)
from ringfence_satellite.protocol.assignments import NOTHING
from ringfence_satellite.protocol.digest import digest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from tests.satellite.cores import ScriptedCore, Visit, scripted_core
from tests.waiting import in_time

STRICT = overlay(DEFAULT_POLICY, {"network": {"mode": "deny"}})
RUN = RunScript(run_id="r1", kind=ScriptKind.SHELL, script="true", timeout_ms=1000)

StartAgent = Callable[..., Agent]


def assess(snapshot: PolicySnapshot, revision: int) -> SandboxPolicyApplied:
    """What a host that can enforce everything would say."""
    del snapshot
    return SandboxPolicyApplied(revision=revision, enforced={"network": True})


def result_under(policy: AppliedPolicy, **fields: object) -> RunResult:
    """What the shared runner would return for a script that did nothing under the policy of now."""
    snapshot = policy.state.snapshot
    origin = PolicyOrigin(source=snapshot.source, revision=snapshot.revision, reason=snapshot.reason)
    report = SandboxReport(requested=snapshot.policy, origin=origin)
    return RunResult.model_validate({"exit_code": 0, "sandbox": report, **fields})


@pytest.fixture
async def core() -> AsyncIterator[ScriptedCore]:
    async with scripted_core() as core:
        yield core


@pytest.fixture
def policy() -> AppliedPolicy:
    return AppliedPolicy()


@pytest.fixture
def settings(core: ScriptedCore, tmp_path: Path) -> AgentSettings:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    return AgentSettings((core.url,), "satellite-1", token, heartbeat_seconds=0.02, version="9")


@asynccontextmanager
async def serving(
    settings: AgentSettings,
    policy: AppliedPolicy,
    run: Run | None = None,
    *,
    hosts: HostAddresses | None = None,
    trusted: ssl.SSLContext | None = None,
) -> AsyncIterator[None]:
    """An agent at work until the block ends, which comes back at once when it loses its core."""

    async def do_nothing(request: ScriptRequest) -> RunResult:
        del request
        return result_under(policy)

    spool, asked = Spool(settings.results_dir), Spool(settings.runs_dir)
    secrets = SecretRequests()
    duties = Duties(run or do_nothing, secrets.ask, spool, states=KeptStates(settings.states_dir))
    agent_runs = AskedRuns(Runner(run or do_nothing, secrets.ask), asked)
    agent = Agent(
        settings,
        policy=policy,
        runs=agent_runs,
        assess=assess,
        duties=duties,
        secrets=secrets,
        spool=spool,
        capabilities={"bwrap": {"available": True}},
        trusted=trusted,
        backoff=Backoff(draw=lambda low, high: 0.0),
        hosts=hosts,
    )
    async with asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(agent.serve()), tasks.create_task(duties.serve())]
        try:
            yield
        finally:
            for task in working:
                task.cancel()
    await agent_runs.stop()
    spool.close()
    asked.close()


async def welcomed(core: ScriptedCore, revision: int = 1) -> Visit:
    """The next visit, let in and told a policy that it has acknowledged."""
    visit = await core.visit()
    await visit.send(
        Authenticated(satellite_id="s", sandbox_policy=STRICT.to_wire(), sandbox_policy_revision=revision)
    )
    await visit.hear("sandbox_policy_applied")
    return visit


async def test_it_says_who_it_is_first_and_then_that_it_is_there(
    core: ScriptedCore, settings: AgentSettings, policy: AppliedPolicy
) -> None:
    async with serving(settings, policy):
        visit = await welcomed(core)
        assert visit.authenticate == {
            "type": "authenticate",
            "clientId": "satellite-1",
            "token": "s3cret",
            "version": "9",
            "capabilities": {"bwrap": {"available": True}},
            "sandboxPolicyHeld": "none",
            "assignmentsHeld": NOTHING.digest,
            "process": visit.authenticate["process"],
            "runs": [],
            "understands": ["task", "narrowed", "context"],
        }
        assert visit.authenticate["process"]
        first, second = await visit.hear("heartbeat"), await visit.hear("heartbeat")
        assert first["version"] == "9"
        assert second["uptimeSeconds"] > first["uptimeSeconds"]


async def test_it_says_which_policy_it_holds_when_it_comes_back(
    core: ScriptedCore, settings: AgentSettings, policy: AppliedPolicy
) -> None:
    async with serving(settings, policy):
        visit = await welcomed(core, revision=4)
        await visit.socket.close()
        again = await core.visit()
    assert again.authenticate["sandboxPolicyHeld"] == {"revision": 4, "digest": digest(STRICT.to_wire())}


async def test_what_it_acknowledges_is_already_in_force(
    core: ScriptedCore, settings: AgentSettings, policy: AppliedPolicy
) -> None:
    async with serving(settings, policy):
        visit = await welcomed(core)
        await visit.send(SandboxPolicyPushed(policy=DEFAULT_POLICY.to_wire(), revision=2))
        applied = await visit.hear("sandbox_policy_applied")
        assert applied["revision"] == 2
        assert policy.state.snapshot.policy == DEFAULT_POLICY


async def test_a_run_is_governed_by_the_policy_that_was_acknowledged(
    core: ScriptedCore, settings: AgentSettings, policy: AppliedPolicy
) -> None:
    async with serving(settings, policy):
        visit = await welcomed(core)
        await visit.send(RUN)
        result = await visit.hear("run_result")
        assert result["runId"] == "r1"
        assert result["exitCode"] == 0
        assert result["sandbox"]["origin"]["revision"] == 1
        assert result["sandbox"]["requested"] == STRICT.to_wire()


async def test_without_a_policy_a_run_is_fail_closed(
    core: ScriptedCore, settings: AgentSettings, policy: AppliedPolicy
) -> None:
    async with serving(settings, policy):
        visit = await core.visit()
        await visit.send(Authenticated(satellite_id="s"))
        await visit.send(RUN)
        result = await visit.hear("run_result")
        assert result["sandbox"]["requested"] == FAIL_CLOSED_POLICY.to_wire()
        assert result["sandbox"]["origin"]["source"] == "fail-closed"


async def test_the_last_policy_holds_on_after_the_connection_is_lost(
    core: ScriptedCore, settings: AgentSettings, policy: AppliedPolicy
) -> None:
    async with serving(settings, policy):
        visit = await welcomed(core, revision=5)
        visit.socket.transport.abort()
        visit = await core.visit()
        assert policy.state.snapshot.policy == STRICT
        stale = Authenticated(
            satellite_id="s", sandbox_policy=DEFAULT_POLICY.to_wire(), sandbox_policy_revision=4
        )
        await visit.send(stale)
        applied = await visit.hear("sandbox_policy_applied")
        assert applied["revision"] == 5
        assert policy.state.snapshot.policy == STRICT


async def test_it_comes_back_after_a_core_that_shuts_down(
    core: ScriptedCore, settings: AgentSettings, policy: AppliedPolicy
) -> None:
    async with serving(settings, policy):
        visit = await welcomed(core)
        await visit.send(Shutdown(reason="restart"))
        assert (await visit.closed())[0] == CloseCode.BACK_SOON
        await welcomed(core)


async def test_it_picks_up_a_rotated_token_without_a_restart(
    core: ScriptedCore, settings: AgentSettings, policy: AppliedPolicy
) -> None:
    async with serving(settings, policy):
        visit = await welcomed(core)
        await asyncio.to_thread(settings.token_file.write_text, "rotated")
        await visit.socket.close(CloseCode.REVOKED, "the token was rotated")
        visit = await core.visit()
        while visit.authenticate["token"] != "rotated":
            visit = await core.visit()


async def test_a_frame_that_cannot_be_read_ends_the_connection_with_the_reason(
    core: ScriptedCore, settings: AgentSettings, policy: AppliedPolicy
) -> None:
    async with serving(settings, policy):
        visit = await welcomed(core)
        await visit.send('{"type": "run_script"}')
        code, reason = await visit.closed()
        assert code == CloseCode.UNREADABLE
        assert "run_script" in reason
        await core.visit()


async def test_binary_messages_and_unknown_types_are_ignored(
    core: ScriptedCore, settings: AgentSettings, policy: AppliedPolicy
) -> None:
    async with serving(settings, policy):
        visit = await welcomed(core)
        await visit.socket.send(b"\x00\xff")
        await visit.send('{"type": "moon_phase"}')
        await visit.send(RUN)
        await visit.hear("run_result")


async def test_stopping_it_cancels_its_runs_and_closes_cleanly(
    core: ScriptedCore, settings: AgentSettings, policy: AppliedPolicy
) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def forever(request: ScriptRequest) -> RunResult:
        del request
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError("never reached")

    async with serving(settings, policy, forever):
        visit = await welcomed(core)
        await visit.send(RUN)
        async with in_time("the script starts"):
            await started.wait()
    assert cancelled.is_set()
    assert (await visit.closed())[0] == CloseCode.NORMAL


async def test_losing_its_core_cancels_the_runs_that_nobody_waits_for_any_more(
    core: ScriptedCore, settings: AgentSettings, policy: AppliedPolicy
) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def forever(request: ScriptRequest) -> RunResult:
        del request
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError("never reached")

    async with serving(settings, policy, forever):
        visit = await welcomed(core)
        await visit.send(RUN)
        async with in_time("the script starts and is cancelled"):
            await started.wait()
            visit.socket.transport.abort()
            await cancelled.wait()


async def test_a_runner_that_fails_is_an_answer_too(
    core: ScriptedCore, settings: AgentSettings, policy: AppliedPolicy
) -> None:
    async def broken(request: ScriptRequest) -> RunResult:
        raise OSError(f"no room for {request.kind}")

    async with serving(settings, policy, broken):
        visit = await welcomed(core)
        await visit.send(RUN)
        result = await visit.hear("run_result")
        assert "no room for shell" in result["error"]


@pytest.mark.parametrize("deep", [300, 5_000])
async def test_a_result_that_cannot_be_sent_is_answered_all_the_same(
    policy: AppliedPolicy, deep: int
) -> None:
    value: list[Any] = []
    for _ in range(deep):
        value = [value]

    async def give(request: ScriptRequest) -> RunResult:
        del request
        return result_under(policy).model_copy(update={"value": value})

    assert "the runner failed" in await Runner(give, SecretRequests().ask).answer(RUN)


async def test_more_runs_than_may_wait_are_turned_away_at_once(policy: AppliedPolicy) -> None:
    release = asyncio.Event()

    async def wait(request: ScriptRequest) -> RunResult:
        del request
        await release.wait()
        return result_under(policy)

    runner = Runner(wait, SecretRequests().ask, max_runs=1)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(runner.answer(RUN))
        while not runner.busy:
            await asyncio.sleep(0)
        assert "busy" in await runner.answer(replace_id(RUN, "r2"))
        release.set()
    assert "busy" not in first.result()


def replace_id(frame: RunScript, run_id: str) -> RunScript:
    return frame.model_copy(update={"run_id": run_id})


@pytest.mark.parametrize("character", ["x", "\x01", "é", "😀"])
def test_a_result_that_is_too_large_is_cut_and_says_so(policy: AppliedPolicy, character: str) -> None:
    outcome = result_under(policy, stdout=character * 20_000, stderr="small", value=["v"] * 9000)
    text = fitted("r", outcome.model_dump(mode="json", by_alias=True), max_bytes=10_000)
    assert 8_000 < len(text.encode()) <= 10_000
    frame = parse_from_satellite(text)
    assert isinstance(frame, RunFinished)
    wire = frame.outcome().to_wire()
    assert wire["outputTruncated"]
    assert wire["stderr"] == "small"
    assert wire["value"] is None
    assert wire["valueError"]
    assert wire["sandbox"] == outcome.sandbox.to_wire()


def test_a_result_that_fits_is_left_alone(policy: AppliedPolicy) -> None:
    outcome = result_under(policy, stdout="x" * 2000).model_dump(mode="json", by_alias=True)
    frame = parse_from_satellite(fitted("r", outcome))
    assert isinstance(frame, RunFinished)
    assert frame.outcome().to_wire()["stdout"] == "x" * 2000
    assert not frame.outcome().to_wire()["outputTruncated"]


async def test_the_token_follows_no_redirect(
    core: ScriptedCore, settings: AgentSettings, policy: AppliedPolicy
) -> None:
    asked = asyncio.Event()

    def redirect(connection: ServerConnection, request: Request) -> Response:
        del connection, request
        asked.set()
        return Response(HTTPStatus.FOUND, "Found", Headers({"Location": core.url.replace("http", "ws")}))

    async def nobody(socket: ServerConnection) -> None:
        raise AssertionError(f"nobody gets in: {socket}")

    async with serve(nobody, "127.0.0.1", 0, process_request=redirect) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with (
            serving(replace(settings, urls=(f"ws://127.0.0.1:{port}",)), policy),
            in_time("the agent asks twice"),
        ):
            await asked.wait()
            asked.clear()
            await asked.wait()
    assert core.visits.empty()


async def test_it_goes_on_trying_a_core_that_is_not_there_yet(tmp_path: Path, policy: AppliedPolicy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    token = tmp_path / "token"
    token.write_text("t")
    arrived = asyncio.Event()

    async def note(connection: ServerConnection) -> None:
        await connection.recv()
        arrived.set()

    async with (
        serving(AgentSettings((f"ws://127.0.0.1:{port}",), "a", token), policy),
        serve(note, "127.0.0.1", port),
        in_time("the agent arrives"),
    ):
        await arrived.wait()


def test_pauses_grow_to_a_cap_and_start_again_after_a_good_connection() -> None:
    backoff = Backoff(draw=lambda low, high: high)
    pauses = [backoff.pause(lasted_seconds=0.1) for _ in range(100)]
    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert max(pauses) == LONGEST_SECONDS
    assert backoff.pause(lasted_seconds=STABLE_SECONDS) == 0.5


def test_pauses_are_spread_over_their_whole_range() -> None:
    backoff = Backoff()
    drawn = {round(backoff.pause(lasted_seconds=STABLE_SECONDS), 3) for _ in range(200)}
    assert len(drawn) > 100
    assert max(drawn) <= 0.5


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://core:8484", "ws://core:8484/api/ws/satellite"),
        ("https://core/base/", "wss://core/base/api/ws/satellite"),
        ("ws://[::1]:1/api/ws/satellite", "ws://[::1]:1/api/ws/satellite"),
    ],
)
def test_the_address_of_a_core_is_made_its_endpoint(url: str, address: str) -> None:
    assert websocket_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "core:8484",
        "ftp://core",
        "https://",
        "https://user:pw@core",
        "https://core?token=x",
        "https://core:port",
        "https://[::1",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(AgentSettingsError):
        websocket_url(url)


def test_only_a_plain_connection_to_another_machine_is_in_the_clear() -> None:
    assert is_in_the_clear("ws://core.example.org")
    assert not is_in_the_clear("wss://core.example.org")
    assert not is_in_the_clear("ws://127.0.0.1:8484")


@pytest.mark.parametrize("how", ["shutdown", "try later", "lost"])
async def test_it_goes_to_the_next_instance_when_one_is_not_there_or_sends_it_away(
    settings: AgentSettings, policy: AppliedPolicy, unused_port: int, how: str
) -> None:
    async with scripted_core() as one, scripted_core() as other:
        several = replace(settings, urls=(f"ws://127.0.0.1:{unused_port}", one.url, other.url))
        in_order = HostAddresses(several.urls, shuffle=lambda _: None)
        async with serving(several, policy, hosts=in_order):
            visit = await welcomed(one)
            if how == "shutdown":
                await visit.send(Shutdown(reason="restart"))
            elif how == "try later":
                await visit.socket.close(CloseCode.TRY_LATER, "too many")
            else:
                visit.socket.transport.abort()
            again = await welcomed(other)
            # And round again, past the one that is not there.
            again.socket.transport.abort()
            await welcomed(one)


def test_all_addresses_are_tried_before_one_is_tried_again_and_each_agent_draws_its_own_order() -> None:
    urls = [f"wss://core-{n}" for n in range(4)]
    orders = set()
    for _ in range(100):
        cores = HostAddresses(urls)
        order = []
        for _ in urls:
            order.append(cores.current)
            cores.move_on()
        assert sorted(order) == urls
        assert cores.current == order[0]
        orders.add(tuple(order))
    assert len(orders) > 10


def test_the_same_address_twice_is_one(tmp_path: Path) -> None:
    settings = AgentSettings(("http://core", "ws://core/"), "a", tmp_path / "token")
    assert settings.urls == ("ws://core/api/ws/satellite",)
    with pytest.raises(AgentSettingsError):
        AgentSettings((), "a", tmp_path / "token")
