"""A cgroup for a run: what is written where, and that nothing is believed that was not tried."""

from __future__ import annotations

from pathlib import Path

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot
from ringfence.sandbox.capabilities import Available, probe
from ringfence.sandbox.cgroup import NotDelegated, RunGroup, find_delegated, prove
from ringfence.sandbox.plan import Inputs, Interpreter, Plan, plan
from ringfence.scripts import ScriptKind, ScriptRequest, run_under

from tests.primitives import requires
from tests.sandbox.hosts import linux


@pytest.fixture
def subtree(tmp_path: Path) -> Path:
    """A directory that looks like a delegated cgroup, and is none."""
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids\n")
    return tmp_path


def test_a_group_has_the_runs_limits_and_no_swap(subtree: Path) -> None:
    RunGroup(subtree, memory_bytes=1024, processes=5).take([17])
    (made,) = (path for path in subtree.iterdir() if path.is_dir())
    written = {path.name: path.read_text().strip() for path in made.iterdir()}
    assert written == {
        "memory.max": "1024",
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "5",
        "cgroup.procs": "17",
    }


def test_a_subtree_must_be_named_and_give_its_children_what_is_needed(subtree: Path) -> None:
    assert find_delegated(str(subtree)) == subtree
    with pytest.raises(NotDelegated, match="RINGFENCE_CGROUP"):
        find_delegated(None)
    with pytest.raises(NotDelegated, match="not a cgroup v2"):
        find_delegated("/nonexistent")
    (subtree / "cgroup.subtree_control").write_text("cpu pids\n")
    with pytest.raises(NotDelegated, match="no memory controller"):
        find_delegated(str(subtree))


def test_what_does_not_kill_is_not_believed(subtree: Path) -> None:
    with pytest.raises(NotDelegated, match="cannot be used"):
        prove(subtree)


def test_the_report_names_the_mechanism_that_holds() -> None:
    snapshot = PolicySnapshot(DEFAULT_POLICY)
    with_group = plan(linux(cgroup=Available(path="/c")), snapshot, Inputs(Interpreter.SHELL))
    without = plan(linux(), snapshot, Inputs(Interpreter.SHELL))
    assert isinstance(with_group, Plan)
    assert with_group.cgroup == "/c"
    assert "memory.max" in with_group.report.mechanisms["memoryBytes"]
    assert "summed by the supervisor" in without.report.mechanisms["memoryBytes"]


@requires("user namespaces")
async def test_a_run_that_cannot_join_its_group_does_not_start() -> None:
    host = probe().model_copy(update={"cgroup": Available(path="/nonexistent")})
    request = ScriptRequest(ScriptKind.SHELL, "echo ran")
    result = await run_under(PolicySnapshot(DEFAULT_POLICY), request, capabilities=host)
    assert (result.refused, result.stdout) == (True, "")
    assert "cgroup" in result.sandbox.downgrades[-1].reason


@requires("user namespaces")
async def test_every_process_of_a_run_is_in_its_group_before_the_script_starts(subtree: Path) -> None:
    host = probe().model_copy(update={"cgroup": Available(path=str(subtree))})
    request = ScriptRequest(ScriptKind.SHELL, "echo ran")
    result = await run_under(PolicySnapshot(DEFAULT_POLICY), request, capabilities=host)
    assert result.stdout == "ran\n"
    (made,) = (path for path in subtree.iterdir() if path.is_dir())
    # In place of a cgroup, the file holds the last pid that was moved: the shell's, or init's before it forked.
    assert (made / "cgroup.procs").read_text().strip().isdigit()
