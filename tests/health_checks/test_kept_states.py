"""What a check keeps from one run to the next: on the core in the database, on a satellite on its disk."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ringfence.scripts import (
    Health,
    RunResult,
    ScriptRequest,
    StateUnavailableError,
    Task,
    carry_out,
)
from ringfence.testing import eventually
from ringfence_health_checks.plugin import HealthChecksPlugin
from ringfence_satellite.agent.connecting.conversation import Confirm, Conversation
from ringfence_satellite.agent.delivering.spool import Spool
from ringfence_satellite.agent.policy_state import AppliedPolicy
from ringfence_satellite.agent.scheduled.assignments import HeldAssignments
from ringfence_satellite.agent.scheduled.schedule import Duties
from ringfence_satellite.agent.scheduled.states import KeptStates
from ringfence_satellite.protocol import Assignment, Authenticated, PlacedTask
from ringfence_satellite.protocol.assignments import Assigned
from sqlalchemy import text

from tests.health_checks.conftest import SECONDS, Checking, StartInstance, agent
from tests.primitives import requires
from tests.satellite.instances import Instance, Registered
from tests.satellite.test_agent_connection import result_under
from tests.shared_hosts import SHARED

needs_sandbox = requires("user namespaces")

COUNT = """
n=$(cat "$RINGFENCE_STATE_DIR/n" 2>/dev/null || echo 0)
echo $((n + 1)) | tee "$RINGFENCE_STATE_DIR/n"
"""
SELDOM: Mapping[str, Any] = {"intervalSeconds": 3600, "script": COUNT, "keepState": True}


async def counted(checking: Checking, check: dict[str, Any]) -> str:
    [attempt] = await checking.run(check)
    return f"{attempt['status']} {attempt['message']}"


async def stored(instance: Instance) -> int:
    async with instance.host.runtime.database.sessions() as session:
        found = await session.execute(text("SELECT count(*) FROM health_checks_kept_states"))
        return int(found.scalar_one())


@needs_sandbox
@SHARED
async def test_a_check_on_the_core_counts_over_runs_and_instances(
    instance: Instance, other: Instance
) -> None:
    first, second = Checking(instance.api), Checking(other.api)
    check = await first.create(**SELDOM)
    for number in (1, 3, 5):
        assert await counted(first, check) == f"healthy {number}"
        assert await counted(second, check) == f"healthy {number + 1}"
    assert await stored(instance) == 1


@pytest.mark.slow
@needs_sandbox
async def test_it_goes_on_counting_when_another_instance_leads(start_instance: StartInstance) -> None:
    first, second = await start_instance(), await start_instance()
    checking = Checking(second.api)
    check = await checking.create(**{**SELDOM, "intervalSeconds": 0.2})
    before = await checking.until(check, lambda results: len(results) >= 3)
    (plugin,) = (one.plugin for one in first.host.plugins if isinstance(one.plugin, HealthChecksPlugin))
    await plugin.drain(plugin._context)
    found = await checking.until(check, lambda results: len(results) >= len(before) + 4)
    assert [one["message"] for one in reversed(found)] == [str(n + 1) for n in range(len(found))]


@needs_sandbox
@SHARED
async def test_runs_of_one_check_at_once_take_turns(instance: Instance, checking: Checking) -> None:
    check = await checking.create(**{**SELDOM, "script": f"{COUNT}sleep 0.2"})
    said = await asyncio.gather(*(counted(checking, check) for _ in range(3)))
    assert sorted(said) == ["healthy 1", "healthy 2", "healthy 3"]


@pytest.mark.slow
@needs_sandbox
@SHARED
async def test_of_two_instances_that_run_it_at_once_one_says_that_it_came_second(
    instance: Instance, other: Instance
) -> None:
    first, second = Checking(instance.api), Checking(other.api)
    # Disabled, so that no run of its schedule comes between them.
    check = await first.create(**{**SELDOM, "script": f"{COUNT}sleep 1", "enabled": False})
    [kept, lost] = sorted(await asyncio.gather(counted(first, check), counted(second, check)))
    assert kept == "healthy 1"
    assert lost.startswith("unknown its state could not be kept: another run of the check")
    assert await counted(first, check) == "healthy 2"


@needs_sandbox
@SHARED
async def test_the_state_goes_with_the_check_and_with_its_wish_to_keep_one(
    instance: Instance, checking: Checking
) -> None:
    check = await checking.create(**SELDOM)
    await counted(checking, check)
    await checking.change(check, script="true")
    assert await stored(instance) == 1
    await checking.change(check, keepState=False)
    assert await stored(instance) == 0
    other = await checking.create(**SELDOM, name="other")
    await counted(checking, other)
    await checking.delete(other)
    assert await stored(instance) == 0


@needs_sandbox
@SHARED
async def test_checks_do_not_share_what_they_keep(instance: Instance, checking: Checking) -> None:
    one = await checking.create(**SELDOM)
    other = await checking.create(**SELDOM, name="other")
    assert await counted(checking, one) == "healthy 1"
    assert await counted(checking, other) == "healthy 1"


@needs_sandbox
@SHARED
async def test_what_cannot_be_kept_makes_the_result_unknown(instance: Instance, checking: Checking) -> None:
    script = 'cd "$RINGFENCE_STATE_DIR"; i=0; while [ $i -le 1000 ]; do : >$i; i=$((i + 1)); done; echo fine'
    check = await checking.create(**{**SELDOM, "script": script})
    [attempt] = await checking.run(check)
    assert attempt["status"] == "unknown"
    assert "there are more than 1000 files and directories in it" in attempt["message"]
    assert attempt["notes"] == ["without that it would be healthy: fine"]


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("states-*/*"))


async def satellite_of(instance: Instance) -> Registered:
    return await instance.register("web", tags=["web"])


@needs_sandbox
@pytest.mark.slow
async def test_a_check_on_a_satellite_counts_over_restarts_and_nothing_is_left_after_it(
    instance: Instance, checking: Checking, tmp_path: Path
) -> None:
    satellite = await satellite_of(instance)
    check = await checking.create(**{**SELDOM, "runsOn": {"tags": ["web"]}})
    marker = await checking.create(**{**SELDOM, "runsOn": {"tags": ["web"]}}, name="marker")

    async def is_online() -> None:
        await instance.until(satellite, lambda one: one["status"] == "online")

        async def is_assigned() -> bool:
            # Its schedule runs it at once, when it is told of it.
            [attempt] = await checking.run(marker)
            return bool(attempt["error"] is None and attempt["status"] == "healthy")

        await eventually(is_assigned, seconds=SECONDS)

    async with agent(instance.url, satellite, tmp_path):
        await is_online()
        before = int((await counted(checking, check)).removeprefix("healthy "))
        assert await counted(checking, check) == f"healthy {before + 1}"
    assert len(files(tmp_path)) == 2
    async with agent(instance.url, satellite, tmp_path):
        await is_online()
        assert int((await counted(checking, check)).removeprefix("healthy ")) >= before + 2
        await checking.delete(check)

        async def is_removed() -> bool:
            return len(files(tmp_path)) == 1

        await eventually(is_removed, seconds=SECONDS)
    # Also if the check goes while the agent is not there.
    await checking.delete(marker)
    async with agent(instance.url, satellite, tmp_path):

        async def all_removed() -> bool:
            return not files(tmp_path)

        await eventually(all_removed, seconds=SECONDS)


# What an agent removes, and when


def duty(id: str) -> Assignment:
    return Assignment(config_id=id, system_id="web", task={"script": "true"}, interval_seconds=60.0)


@pytest.fixture
def states(tmp_path: Path) -> KeptStates:
    return KeptStates(tmp_path / "states-1")


async def test_a_state_on_disk_is_there_as_a_whole_and_private(states: KeptStates, tmp_path: Path) -> None:
    states.retain(["../../etc/passwd"])
    store = states.of("../../etc/passwd")
    assert await store.load() == b""
    await store.save(b"one")
    await store.save(b"two")
    assert await states.of("../../etc/passwd").load() == b"two"
    [file] = files(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


async def test_only_what_is_assigned_has_a_state(states: KeptStates) -> None:
    states.retain(["a"])
    with pytest.raises(StateUnavailableError, match="not assigned to this satellite"):
        await states.of("b").load()
    with pytest.raises(StateUnavailableError, match="not assigned to this satellite"):
        await states.of("b").save(b"")
    with pytest.raises(StateUnavailableError, match="keeps no state"):
        await KeptStates().of("a").load()


async def test_a_host_that_names_nothing_removes_nothing(states: KeptStates, tmp_path: Path) -> None:
    async def run(request: ScriptRequest) -> RunResult:
        raise AssertionError(request)

    async def secrets(config_id: str) -> Mapping[str, str]:
        raise AssertionError(config_id)

    duties = Duties(run, secrets, Spool(tmp_path / "results"), states=states)
    duties.assign([duty("a"), duty("b")], {"a", "b", "of-a-newer-host"})
    for id in ("a", "b", "of-a-newer-host"):
        await states.of(id).save(b"state")
    # It was dismissed, or the host does not say.
    duties.assign([])
    assert len(files(tmp_path)) == 3
    duties.assign([duty("a")], {"a", "of-a-newer-host"})
    assert len(files(tmp_path)) == 2
    duties.confirm({"a"})
    assert await states.of("a").load() == b"state"
    assert len(files(tmp_path)) == 1


def test_what_a_host_confirms_is_all_that_is_held() -> None:
    held = HeldAssignments()
    conversation = Conversation(AppliedPolicy(), held)
    held.take(Assigned.of([duty("a").item]))
    digest = held.current.digest

    def confirmed(frame: Authenticated) -> list[frozenset[str]]:
        return [one.named for one in conversation.received(frame.encode()) if isinstance(one, Confirm)]

    assert confirmed(Authenticated(satellite_id="s", assignments_digest=digest)) == [frozenset({"a"})]
    assert confirmed(Authenticated(satellite_id="s", assignments_digest="other")) == []
    # One that says nothing of assignments has nothing to do, and names nothing.
    assert confirmed(Authenticated(satellite_id="s")) == []


# How it is told to satellites


def test_an_agent_that_cannot_keep_state_cannot_take_a_task_that_does() -> None:
    task = Task(kind="shell", script="true", keep_state=True)
    placed = PlacedTask.of(task, {}, {})
    assert not placed.is_plain
    assert placed.parts()["task"]["keepState"] is True
    # And the others are told as ever.
    assert "keepState" not in PlacedTask.of(Task(kind="shell", script="true"), {}, {}).parts()["task"]


# What carries out a task


class Memory:
    """A store that can fail."""

    def __init__(self, failure: str = "") -> None:
        self.state = b""
        self.failure = failure
        self.lock = asyncio.Lock()

    def turn(self) -> asyncio.Lock:
        return self.lock

    async def load(self) -> bytes:
        if self.failure == "load":
            raise StateUnavailableError("no disk")
        return self.state

    async def save(self, state: bytes) -> None:
        if self.failure == "save":
            raise StateUnavailableError("no disk")
        self.state = state


async def carried(store: Memory | None, **result: Any) -> tuple[Health, str]:
    async def run(request: ScriptRequest) -> RunResult:
        assert request.state is not None
        return result_under(AppliedPolicy()).model_copy(update=result)

    async def secrets(_: object) -> Mapping[str, str]:
        return {}

    task = Task(kind="shell", script="true", keep_state=True)
    done = await carry_out(task, {}, secrets=secrets, run=run, timeout_ms=1000, state=store)
    return done.verdict.status, done.verdict.message


async def test_a_state_that_cannot_be_had_or_stored_makes_it_unknown() -> None:
    assert await carried(Memory("load")) == (Health.UNKNOWN, "not run: its state is not available: no disk")
    lost = await carried(Memory("save"), kept_state=b"new")
    assert lost == (Health.UNKNOWN, "its state could not be kept: no disk")


async def test_a_run_that_leaves_no_state_changes_none() -> None:
    store = Memory()
    store.state = b"before"
    assert (await carried(store, kept_state=None))[0] is Health.HEALTHY
    assert store.state == b"before"
    await carried(store, kept_state=b"after")
    assert store.state == b"after"


async def test_a_task_that_is_only_tried_finds_nothing_and_keeps_nothing() -> None:
    assert (await carried(None, kept_state=b"new"))[0] is Health.HEALTHY
