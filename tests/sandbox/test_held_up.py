"""What one run makes take long holds up nobody else: the event loop goes on, and so do the other runs.

In each of these something stands still until another run has come to its end, on the same loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.launch import discard
from ringfence.sandbox.launch.making import plain
from ringfence.sandbox.launch.making.scratch import Scratch
from ringfence.sandbox.launch.supervision import course, custody, kill
from ringfence.sandbox.limits.counting.tree import Tree
from ringfence.sandbox.processes import spawner
from ringfence.sandbox.processes.descent import descendants
from ringfence.scripts import RunnerSettings, ScriptKind, ScriptRequest, Stopped
from ringfence.scripts.running.runner import Runner

from tests.primitives import requires
from tests.sandbox.conftest import RunScript
from tests.sandbox.processes import marked_processes
from tests.sandbox.test_plain import run_degraded
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = requires("user namespaces")

SNAPSHOT = PolicySnapshot(DEFAULT_POLICY, revision=1)
NEWER = PolicySnapshot(DEFAULT_POLICY, revision=2)


class Gate:
    """Something that is reached once, and stands still there until it may go on."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()

    @property
    def is_reached(self) -> bool:
        return self._reached.is_set()

    def open(self) -> None:
        self._open.set()

    def before(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same work, the first of which stands still at first."""

        def held_up(*args: Any, **kwargs: Any) -> Any:
            if not self._reached.is_set():
                self._reached.set()
                assert self._open.wait(PATIENCE_SECONDS), "the loop stood still meanwhile"
            return work(*args, **kwargs)

        return held_up


@pytest.fixture
def gate() -> Iterator[Gate]:
    probe()  # What probing starts is nothing that a run does.
    gate = Gate()
    yield gate
    gate.open()


async def test_a_plain_run_whose_spawner_takes_long_to_start(
    run_script: RunScript, monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    monkeypatch.setattr(spawner.Spawner, "__init__", gate.before(spawner.Spawner.__init__))
    slow = asyncio.create_task(run_degraded("shell", "echo slow"))
    await until(lambda: gate.is_reached)
    assert (await run_script("shell", "echo ran")).stdout == "ran\n"
    assert not slow.done()
    gate.open()
    assert (await slow).stdout == "slow\n"


@requires("slirp4netns", "nft", "ip")
async def test_a_link_whose_spawner_takes_long_to_start(
    run_script: RunScript, monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    policy = {"network": {"allow": ["192.0.2.1:443"]}}
    await run_script("shell", ":", policy=policy)
    for key in [key for key in spawner._spawners if key[2]]:
        spawner._spawners.pop(key).close()
    monkeypatch.setattr(spawner.Spawner, "__init__", gate.before(spawner.Spawner.__init__))
    slow = asyncio.create_task(run_script("shell", "echo slow", policy=policy))
    await until(lambda: gate.is_reached)
    assert (await run_script("shell", "echo ran")).stdout == "ran\n"
    assert not slow.done()
    gate.open()
    assert (await slow).stdout == "slow\n"


@pytest.mark.parametrize(
    ("what", "name"), [(plain, "kill_under"), (Scratch, "close")], ids=["killing", "removing its scratch"]
)
async def test_a_plain_run_that_takes_long_to_end(
    run_script: RunScript, monkeypatch: pytest.MonkeyPatch, gate: Gate, what: object, name: str
) -> None:
    monkeypatch.setattr(what, name, gate.before(getattr(what, name)))
    slow = asyncio.create_task(run_degraded("shell", "echo slow"))
    await until(lambda: gate.is_reached)
    assert (await run_script("shell", "echo ran")).stdout == "ran\n"
    assert not slow.done()
    gate.open()
    assert (await slow).stdout == "slow\n"


async def test_a_run_that_resists(run_script: RunScript, monkeypatch: pytest.MonkeyPatch, gate: Gate) -> None:
    monkeypatch.setattr(custody, "kill_namespace", gate.before(kill.kill_namespace))
    slow = asyncio.create_task(run_script("shell", "sleep 1000", timeout_ms=50))
    await until(lambda: gate.is_reached)
    assert (await run_script("shell", "echo ran")).stdout == "ran\n"
    assert not slow.done()
    gate.open()
    assert (await slow).timed_out


async def test_a_run_that_is_cancelled_while_its_sandbox_is_made_leaves_none(
    monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    monkeypatch.setattr(spawner.Spawner, "__init__", gate.before(spawner.Spawner.__init__))
    unwanted = asyncio.create_task(run_degraded("shell", "sleep 1000.125"))
    await until(lambda: gate.is_reached)
    before = descendants(os.getpid())
    unwanted.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unwanted
    gate.open()
    await until(lambda: set(descendants(os.getpid())) <= set(before))


@pytest.fixture
async def stopped_sandbox(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A runner with one sandbox that waits, and that stands still: it would not end by itself."""
    monkeypatch.setattr(discard, "END_TIMEOUT_S", PATIENCE_SECONDS)
    runner = Runner(RunnerSettings(max_concurrent_runs=4, warm_sandboxes=1))
    for _ in range(2):
        await runner.run(SNAPSHOT, ScriptRequest(ScriptKind.SHELL, ""))
    await until(lambda: len(marked_processes("IFS= read -r RINGFENCE_GO")) == 3)
    stopped = marked_processes("IFS= read -r RINGFENCE_GO")
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    yield runner
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    await until(lambda: not set(marked_processes("IFS= read -r RINGFENCE_GO")) & set(stopped))
    for left in runner.pool.clear():
        await asyncio.wrap_future(left)


async def test_a_sandbox_that_is_thrown_away_for_another_policy(stopped_sandbox: Runner) -> None:
    result = await stopped_sandbox.run(NEWER, ScriptRequest(ScriptKind.SHELL, "echo ran"))
    assert result.stdout == "ran\n"
    assert len(marked_processes("IFS= read -r RINGFENCE_GO")) >= 3, "it was waited for"


async def test_a_sandbox_that_is_thrown_away_for_another_kind(stopped_sandbox: Runner) -> None:
    for _ in range(2):
        await stopped_sandbox.run(SNAPSHOT, ScriptRequest(ScriptKind.PYTHON, ""))
    await until(lambda: marked_processes("/proc/self/fd/5"))
    assert len(marked_processes("IFS= read -r RINGFENCE_GO")) >= 3, "it was waited for"


async def test_a_sandbox_that_nobody_wants_any_more(stopped_sandbox: Runner) -> None:
    left = stopped_sandbox.pool.clear()
    assert [one.done() for one in left] == [False]


async def test_a_sandbox_that_cannot_be_stopped_by_asking_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discard, "END_TIMEOUT_S", 0.05)
    runner = Runner(RunnerSettings(max_concurrent_runs=4, warm_sandboxes=1))
    for _ in range(2):
        await runner.run(SNAPSHOT, ScriptRequest(ScriptKind.SHELL, ""))
    await until(lambda: len(marked_processes("IFS= read -r RINGFENCE_GO")) == 3)
    for pid in marked_processes("IFS= read -r RINGFENCE_GO"):
        os.kill(pid, signal.SIGSTOP)
    [left] = runner.pool.clear()
    await asyncio.wrap_future(left)
    await until(lambda: not marked_processes("IFS= read -r RINGFENCE_GO"))


async def test_a_look_that_fails_ends_the_run_and_says_why(
    run_script: RunScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> int:
        raise ValueError("invalid literal")

    monkeypatch.setattr(Tree, "look", broken)
    result = await run_script("shell", "sleep 1000", timeout_ms=60_000)
    assert result.stopped is Stopped.UNWATCHED
    assert any("could not be seen: ValueError: invalid literal" in note.note for note in result.sandbox.notes)


async def test_what_cannot_be_killed_is_told(run_script: RunScript, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_vain(init: int, group: object) -> tuple[int, ...]:
        return (4242,)

    monkeypatch.setattr(custody, "kill_namespace", in_vain)
    result = await run_script("shell", "sleep 1000", timeout_ms=50)
    assert result.timed_out
    assert any("could not be killed are left: 4242" in note.note for note in result.sandbox.notes)


async def test_a_start_that_comes_too_late_is_refused_with_its_reason(
    run_script: RunScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "PREPARE_TIMEOUT_S", 0.0)
    result = await run_script("shell", "echo ran")
    assert result.refused
    assert "has not started within" in result.sandbox.downgrades[-1].reason
