"""Sandboxes that wait: used once, the same as cold ones, and thrown away when they are no longer what is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.workers import Workers
from ringfence.scripts import RunnerSettings, ScriptKind, ScriptRequest
from ringfence.scripts.running.runner import Runner

from tests.primitives import requires
from tests.sandbox.processes import descriptors, marked_processes
from tests.waiting import until

pytestmark = requires("user namespaces")

SNAPSHOT = PolicySnapshot(DEFAULT_POLICY, revision=1)


@pytest.fixture
async def warm_runner() -> AsyncIterator[Runner]:
    runner = Runner(RunnerSettings(max_concurrent_runs=4, warm_sandboxes=2))
    yield runner
    await cleared(runner)


async def cleared(runner: Runner) -> None:
    """Throw away what waits, and see it gone."""
    for left in runner.pool.clear():
        await asyncio.wrap_future(left)


async def prime(runner: Runner, kind: str, snapshot: PolicySnapshot = SNAPSHOT) -> None:
    """Run twice: from the second run on, sandboxes wait for a third."""
    for _ in range(2):
        await runner.run(snapshot, ScriptRequest(ScriptKind(kind), ""))
    await asyncio.sleep(0)  # They are made once the caller has its result.
    assert len(runner.pool) > 0


@pytest.mark.parametrize("kind", ["shell", "python", "esm"])
async def test_a_warm_run_gives_what_a_cold_one_gives(warm_runner: Runner, kind: str) -> None:
    script = {
        "shell": "echo $A; exit 3",
        "python": "import os, sys; print(os.environ['A']); sys.exit(3)",
        "esm": "console.log(process.env.A); process.exit(3)",
    }[kind]
    request = ScriptRequest(ScriptKind(kind), script, env={"A": "a"})
    cold = await warm_runner.run(SNAPSHOT, request)
    await prime(warm_runner, kind)
    warm = await warm_runner.run(SNAPSHOT, request)
    assert not cold.timing.warm
    assert warm.timing.warm
    assert (warm.exit_code, warm.stdout, warm.stderr) == (cold.exit_code, cold.stdout, cold.stderr)
    assert (warm.exit_code, warm.stdout) == (3, "a\n")
    assert warm.sandbox == cold.sandbox


async def test_the_first_run_of_a_kind_prepares_nothing(warm_runner: Runner) -> None:
    await warm_runner.run(SNAPSHOT, ScriptRequest(ScriptKind.SHELL, ":"))
    assert len(warm_runner.pool) == 0


async def test_no_more_wait_than_the_setting_says(warm_runner: Runner) -> None:
    for kind in ("shell", "python", "shell", "python", "shell"):
        await warm_runner.run(SNAPSHOT, ScriptRequest(ScriptKind(kind), ""))
        await asyncio.sleep(0)
    assert len(warm_runner.pool) == 2


async def test_each_is_used_once(warm_runner: Runner) -> None:
    await prime(warm_runner, "shell")
    for _ in range(4):
        result = await warm_runner.run(SNAPSHOT, ScriptRequest(ScriptKind.SHELL, "ls -a; touch seen"))
        assert result.stdout.split() == [".", ".."]
        assert result.timing.warm


async def test_the_next_one_is_made_when_the_caller_has_its_result(warm_runner: Runner) -> None:
    await prime(warm_runner, "shell")
    result = await warm_runner.run(SNAPSHOT, ScriptRequest(ScriptKind.SHELL, ":"))
    assert (result.timing.warm, len(warm_runner.pool)) == (True, 1)
    await asyncio.sleep(0)
    assert len(warm_runner.pool) == 2


async def test_a_new_revision_throws_the_waiting_ones_away(warm_runner: Runner) -> None:
    await prime(warm_runner, "shell")
    newer = PolicySnapshot(DEFAULT_POLICY, revision=2)
    result = await warm_runner.run(newer, ScriptRequest(ScriptKind.SHELL, ":"))
    assert not result.timing.warm
    assert len(warm_runner.pool) == 0


async def test_another_policy_never_gets_a_sandbox_made_for_this_one(warm_runner: Runner) -> None:
    await prime(warm_runner, "shell")
    tighter = PolicySnapshot(overlay(DEFAULT_POLICY, {"resources": {"maxOpenFiles": 32}}), revision=1)
    result = await warm_runner.run(tighter, ScriptRequest(ScriptKind.SHELL, "ulimit -n"))
    assert result.stdout == "32\n"


async def test_the_wall_clock_begins_at_the_start(warm_runner: Runner) -> None:
    await prime(warm_runner, "shell")
    # Whatever the sandbox has waited so far is more than this run may take.
    await asyncio.sleep(1.1)
    result = await warm_runner.run(SNAPSHOT, ScriptRequest(ScriptKind.SHELL, "echo ran", timeout_ms=1000))
    assert (result.timing.warm, result.timed_out, result.stdout) == (True, False, "ran\n")


async def all_wait(runner: Runner) -> None:
    """See all that is prepared wait: each shell is three processes, with the wrapper and the namespace's init."""
    await until(lambda: len(marked_processes("IFS= read -r RINGFENCE_GO")) == 3 * len(runner.pool))


async def learn(runner: Runner) -> None:
    """Have what the oldest has told taken in, as after each run that leaves one waiting."""
    await all_wait(runner)
    await runner.run(SNAPSHOT, ScriptRequest(ScriptKind.SHELL, ":"))
    await asyncio.sleep(0)
    assert [waiting.entered is not None for waiting in runner.pool.waiting()] == [True, False]


async def test_a_run_begins_sooner_in_one_that_has_told_of_itself_before(warm_runner: Runner) -> None:
    await prime(warm_runner, "shell")
    await learn(warm_runner)
    told = warm_runner.pool.waiting()[0].entered
    assert told is not None
    assert told.monitor is not None
    assert told.init is not None
    result = await warm_runner.run(SNAPSHOT, ScriptRequest(ScriptKind.SHELL, "echo $$; exit 3"))
    assert (result.timing.warm, result.exit_code, result.stderr) == (True, 3, "")


@pytest.mark.parametrize("learnt", [False, True])
async def test_one_that_died_while_it_waited_is_replaced_and_nobody_notices(
    warm_runner: Runner, learnt: bool
) -> None:
    await prime(warm_runner, "shell")
    if learnt:
        await learn(warm_runner)
    await all_wait(warm_runner)
    for pid in marked_processes("IFS= read -r RINGFENCE_GO"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    result = await warm_runner.run(SNAPSHOT, ScriptRequest(ScriptKind.SHELL, "echo ran"))
    assert (result.exit_code, result.stdout, result.timing.warm) == (0, "ran\n", False)


async def test_idle_ones_are_thrown_away_with_all_their_processes() -> None:
    runner = Runner(RunnerSettings(max_concurrent_runs=1, warm_sandboxes=1, warm_idle_s=0.05))
    await prime(runner, "python")
    await until(lambda: len(runner.pool) == 0)
    await until(lambda: not marked_processes("/proc/self/fd/5"))


async def test_a_cleared_pool_leaves_no_process_and_no_descriptor(warm_runner: Runner) -> None:
    await warm_runner.run(SNAPSHOT, ScriptRequest(ScriptKind.PYTHON, ""))
    await warm_runner.run(SNAPSHOT, ScriptRequest(ScriptKind.SHELL, ""))
    before = await descriptors()
    await prime(warm_runner, "shell")
    await learn(warm_runner)
    await prime(warm_runner, "python")
    await cleared(warm_runner)
    assert not marked_processes("IFS= read -r RINGFENCE_GO")
    assert not marked_processes("/proc/self/fd/5")
    assert await descriptors() == before


async def test_more_runs_than_places_wait_and_say_for_how_long() -> None:
    runner = Runner(RunnerSettings(max_concurrent_runs=1, warm_sandboxes=0))
    request = ScriptRequest(ScriptKind.SHELL, "sleep 0.2")
    first, second = await asyncio.gather(runner.run(SNAPSHOT, request), runner.run(SNAPSHOT, request))
    # The second has waited for the first, which has slept for so long.
    assert first.timing.queued_ms < second.timing.queued_ms
    assert second.timing.queued_ms > 180


async def test_what_waits_is_ended_also_when_no_thread_can_be_started_any_more(
    warm_runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As when the interpreter ends while a sandbox is still being made.
    await prime(warm_runner, "shell")
    await until(lambda: len(marked_processes("IFS= read -r RINGFENCE_GO")) == 3 * len(warm_runner.pool))
    ended = Workers(1, "ended")
    ended._executor.shutdown()
    monkeypatch.setattr("ringfence.sandbox.launch.discard.DISCARDS", ended)
    left = warm_runner.pool.clear()
    assert left
    assert all(one.done() for one in left)
    assert not marked_processes("IFS= read -r RINGFENCE_GO")
