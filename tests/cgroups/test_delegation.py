"""Being given a subtree: by the unit that the supervisor runs in, or by name; and what is not taken for given."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox.limits.cgroups import delegation

from tests.cgroups import units
from tests.cgroups.conftest import Start
from tests.escapes import reach
from tests.escapes.conftest import Supervisor
from tests.waiting import next_line, wait_until

BY_THE_KERNEL = "memory.max of the run's own cgroup"
SUMMED = "best effort: "


def mechanism(process: subprocess.Popen[str], uid: int = 0) -> str:
    """By what the memory of a run is held."""
    return Supervisor(process, uid, warm=False).run("shell", "true").sandbox.mechanisms["memoryBytes"]


def test_a_delegated_unit_makes_room_for_runs_by_moving_into_a_leaf(
    unit: Path, supervisor: Supervisor
) -> None:
    supervisor.run("shell", "true")
    assert (unit / "cgroup.procs").read_text() == ""
    assert str(supervisor.pid) in (unit / "supervisor" / "cgroup.procs").read_text().split()
    assert {"memory", "pids"} <= set((unit / "cgroup.subtree_control").read_text().split())


def test_whoever_starts_in_the_leaf_of_a_delegated_unit_uses_the_unit(start: Start) -> None:
    """A second process of the unit; and what systemd's `DelegateSubgroup=` does."""
    with units.unit() as unit:
        (unit / "supervisor").mkdir()
        with start(unit / "supervisor") as process:
            assert BY_THE_KERNEL in mechanism(process)


def test_a_named_subtree_is_used_from_wherever_root_is(start: Start) -> None:
    with (
        units.unit(delegate=False) as named,
        units.unit(delegate=False) as elsewhere,
        start(elsewhere, 0, {"RINGFENCE_CGROUP": str(named)}) as process,
    ):
        assert BY_THE_KERNEL in mechanism(process)
        assert str(process.pid) in (elsewhere / "cgroup.procs").read_text().split()


@pytest.mark.parametrize("uid", [0, reach.OTHER_UID])
def test_a_named_cgroup_that_is_our_own_is_made_ready_like_a_delegated_one(start: Start, uid: int) -> None:
    with units.unit(uid, mark=False) as unit, start(unit, uid, {"RINGFENCE_CGROUP": str(unit)}) as process:
        assert BY_THE_KERNEL in mechanism(process)


def test_a_cgroup_that_is_writable_but_not_given_is_left_alone(start: Start) -> None:
    with units.unit(delegate=False) as unit, start(unit) as process:
        assert SUMMED in mechanism(process)
        assert list(unit.glob("*/")) == []


def test_a_named_cgroup_with_strangers_in_it_is_not_emptied(start: Start) -> None:
    with units.unit(delegate=False) as named, subprocess.Popen(["sleep", "1000"]) as stranger:
        try:
            (named / "cgroup.procs").write_text(str(stranger.pid))
            with pytest.raises(delegation.NotDelegated, match="not ours to move"):
                delegation.make_ready(named)
            assert (named / "cgroup.procs").read_text().split() == [str(stranger.pid)]
        finally:
            stranger.kill()


def test_a_named_cgroup_that_the_user_may_not_write_is_not_used(start: Start) -> None:
    with (
        units.unit(delegate=False) as named,
        units.unit(delegate=False) as elsewhere,
        start(elsewhere, reach.OTHER_UID, {"RINGFENCE_CGROUP": str(named)}) as process,
    ):
        assert SUMMED in mechanism(process, reach.OTHER_UID)


def test_a_subtree_that_is_given_no_controllers_is_not_used() -> None:
    with units.unit() as unit:
        inner = unit / "inner"
        inner.mkdir()
        with pytest.raises(delegation.NotDelegated, match="no memory and no pids controller"):
            delegation.make_ready(inner)


ENDINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "by itself": ("(setsid sleep 1000 &) & exit 3", {}),
    "by the clock": ("setsid sleep 1000 & kill -STOP $$", {"timeout_ms": 300}),
    "for its output": ("yes", {"policy": {"resources": {"maxOutputBytes": 1000}}}),
}


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_run_leaves_no_cgroup_however_it_ends(supervisor: Supervisor, ending: str) -> None:
    script, options = ENDINGS[ending]
    assert supervisor.run("shell", script, **options).exit_code != 0


def test_sandboxes_wait_in_cgroups_of_their_own_and_leave_none_at_the_end(start: Start) -> None:
    with units.unit() as unit:
        with start(unit) as process:
            warm = Supervisor(process, 0, warm=True)
            for script, options in ENDINGS.values():
                assert warm.run("shell", script, **options).exit_code != 0
            wait_until(lambda: all(len(processes(run)) > 1 for run in units.runs_in(unit)))
            assert 1 <= len(units.runs_in(unit)) <= 3, "those that wait, and none of the many that ran"
        assert units.runs_in(unit) == []


def test_what_a_killed_supervisor_leaves_is_removed_by_the_next(start: Start) -> None:
    with units.unit() as unit:
        with start(unit) as process:
            order = Supervisor(process, 0, warm=False).order("shell", "sleep 1000")
            assert process.stdin is not None
            process.stdin.write(json.dumps([order]) + "\n")
            process.stdin.flush()
            wait_until(lambda: script_runs_in(unit))
            process.send_signal(signal.SIGKILL)
            process.wait()
        (left,) = units.runs_in(unit)
        with start(unit / "supervisor") as process:
            assert BY_THE_KERNEL in mechanism(process)
            assert not left.exists()


def script_runs_in(unit: Path) -> bool:
    """Whether a script's process is there, beside its sandbox's init; a probe's cgroup has one process."""
    return any(len(processes(run)) > 1 for run in units.runs_in(unit))


def processes(run: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return (run / "cgroup.procs").read_text().split()
    return []


def test_another_supervisor_of_the_same_unit_removes_no_run_that_goes_on(start: Start) -> None:
    with units.unit() as unit, start(unit) as first:
        order = Supervisor(first, 0, warm=False).order(
            "shell", "mkfifo ~/fifo; read line <~/fifo", timeout_ms=20_000
        )
        assert first.stdin is not None
        first.stdin.write(json.dumps([order]) + "\n")
        first.stdin.flush()
        wait_until(lambda: script_runs_in(unit))
        before = units.runs_in(unit)
        probe = "from ringfence.sandbox.capabilities import primitives as p; print(p.delegated_cgroup().place.subtree)"
        second = units.start(unit / "supervisor", 0, [sys.executable, "-c", probe], dict(os.environ))
        assert second.communicate()[0].strip() == str(unit)
        assert before == units.runs_in(unit)
        (before[0] / "cgroup.kill").write_text("1")
        assert json.loads(next_line(first.stdout, "the result"))["results"][0]["exitCode"] == 128 + 9
