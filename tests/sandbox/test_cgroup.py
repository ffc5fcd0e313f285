"""A cgroup for a run: which subtree is ours, and that nothing is believed that was not tried.

What a kernel does with such cgroups is in `tests/cgroups`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.limits.cgroups import delegation
from ringfence.sandbox.limits.cgroups.delegation import NotDelegated
from ringfence.sandbox.limits.cgroups.unified import UnifiedGroup
from ringfence.sandbox.plan.decide import plan
from ringfence.sandbox.plan.furnish import furnish
from ringfence.sandbox.plan.model import Inputs, Interpreter, Plan
from ringfence.sandbox.wrappers.room import HostFiles, Shown
from ringfence.scripts import ScriptKind, ScriptRequest, run_under

from tests.primitives import requires
from tests.sandbox.hosts import cgroup, linux

HAVING = linux(cgroup=cgroup("/c/unit", mounts=("/c", "/other")))


@pytest.fixture
def subtree(tmp_path: Path) -> Path:
    """A directory that looks like a delegated cgroup, and is none."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory pids\n")
    return tmp_path


def test_a_subtree_is_named_or_marked_and_never_guessed(
    subtree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delegation, "own_cgroup", lambda: subtree / "inner")
    assert delegation.find(str(subtree)) == subtree
    with pytest.raises(
        NotDelegated, match="inner is not delegated to us, and RINGFENCE_CGROUP names no other"
    ):
        delegation.find(None)
    with pytest.raises(NotDelegated, match="not a cgroup v2"):
        delegation.find("/nonexistent")


def test_what_is_given_no_controller_cannot_hand_one_down(subtree: Path) -> None:
    (subtree / "cgroup.subtree_control").write_text("cpu pids\n")
    (subtree / "cgroup.controllers").write_text("cpu pids\n")
    with pytest.raises(NotDelegated, match="has no memory controller"):
        delegation.make_ready(subtree)


def test_what_limits_nothing_is_not_believed(subtree: Path) -> None:
    with pytest.raises(NotDelegated, match="cannot be used"):
        delegation.prove(
            subtree, lambda memory, most: UnifiedGroup(subtree, memory_bytes=memory, processes=most)
        )
    assert list(subtree.glob("*/")) == []


def test_the_report_names_the_mechanism_that_holds() -> None:
    snapshot = PolicySnapshot(DEFAULT_POLICY)
    with_group = plan(HAVING, snapshot, Inputs(Interpreter.SHELL))
    without = plan(linux(), snapshot, Inputs(Interpreter.SHELL))
    assert isinstance(with_group, Plan)
    assert with_group.cgroup is not None
    assert with_group.cgroup.subtree == Path("/c/unit")
    assert "memory.max" in with_group.report.mechanisms["memoryBytes"]
    assert "best effort" in without.report.mechanisms["memoryBytes"]
    assert "summed by the supervisor" in without.report.mechanisms["memoryBytes"]


def test_where_the_hosts_files_are_kept_the_cgroup_file_system_is_read_only() -> None:
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, {"filesystem": {"mode": "off"}}))
    planned = plan(HAVING, snapshot, Inputs(Interpreter.SHELL))
    assert isinstance(planned, Plan)
    room = furnish(planned, files={}, masked=(), bottom=None, program=None)
    assert room.steps[:3] == (HostFiles(), Shown("/c", "/c"), Shown("/other", "/other"))


@requires("user namespaces")
async def test_a_run_that_cannot_join_its_group_does_not_start() -> None:
    host = replace(probe(), cgroup=cgroup("/nonexistent"))
    request = ScriptRequest(ScriptKind.SHELL, "echo ran")
    result = await run_under(PolicySnapshot(DEFAULT_POLICY), request, capabilities=host)
    assert (result.refused, result.stdout) == (True, "")
    assert "cgroup" in result.sandbox.downgrades[-1].reason
