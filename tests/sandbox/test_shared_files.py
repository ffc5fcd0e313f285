"""Where the system's files cannot be layered, and what is mounted among them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot
from ringfence.sandbox.capabilities.found import Missing
from ringfence.sandbox.capabilities.model import SystemLayout
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.plan.furnish import furnish
from ringfence.sandbox.plan.layers.uidzero import at_large
from ringfence.sandbox.policy import FilesystemMode
from ringfence.sandbox.wrappers.bottom import Bottom
from ringfence.sandbox.wrappers.room import ClosedProc, Layered, Made, Proc, Shown
from ringfence.scripts import RunResult, ScriptKind, ScriptRequest, run_under

from tests import world_supervisor
from tests.primitives import requires
from tests.sandbox.hosts import linux, with_blocked_namespaces
from tests.sandbox.test_plan import DEGRADE, planned

NO_OVERLAY = Missing(reason="Invalid argument")


# What is decided


def test_directories_are_layered_files_are_copied_and_nothing_of_the_host_is_shown_as_it_is() -> None:
    layout = SystemLayout(links=(("/bin", "usr/bin"),), directories=("/lib64",), etc=("/etc/alternatives",))
    made = planned(linux(layout=layout))
    room = furnish(made, files={"/etc/ld.so.cache": b"libraries"}, masked=(), bottom="/empty", program=None)

    layered = [step.at for step in room.steps if isinstance(step, Layered)]
    assert layered == ["/usr", "/lib64", "/etc/alternatives"]
    assert Made("/etc/ld.so.cache", b"libraries") in room.steps
    assert not any(isinstance(step, Shown) for step in room.steps)
    assert not made.shares_files


def test_all_of_proc_is_closed_after_its_masks() -> None:
    for mode in FilesystemMode:
        made = planned(linux(), {"filesystem": {"mode": mode}})
        room = furnish(made, files={}, masked=("/proc/kcore",), bottom=None, program=None)
        steps = list(room.steps)
        after = steps[steps.index(Proc()) :]
        mounted = [getattr(step, "at", "") for step in after[: after.index(ClosedProc())]]
        assert {"/proc/kcore", "/proc/1"} <= set(mounted)


def test_without_overlays_files_are_shown_and_the_report_says_which_locks_are_left() -> None:
    made = planned(linux(overlay=NO_OVERLAY))

    assert (made.layered, made.shares_files) == (False, True)
    assert made.report.enforced.filesystem
    (said,) = [note.note for note in made.report.notes if "shared with the host" in note.note]
    assert (
        "whole files cannot be locked (flock), but ranges of a file can, for reading (Invalid argument)"
        in said
    )


def test_where_the_policy_gives_the_hosts_files_they_are_not_layered_and_can_be_locked() -> None:
    made = planned(linux(), {"filesystem": {"mode": "off"}})
    assert (made.layered, made.shares_files) == (False, False)


@pytest.mark.parametrize(
    ("uid", "mode", "wrapped", "says"),
    [
        (0, "off", True, "sees the host's files"),
        (0, "off", False, "root's capabilities"),
        (0, "scratch-only", False, "root's capabilities"),
        (0, "scratch-plus-ro", False, "root's capabilities"),
        (0, "scratch-only", True, None),
        (0, "scratch-plus-ro", True, None),
        (65532, "off", True, None),
        (65532, "off", False, None),
        (65532, "scratch-only", False, None),
    ],
)
def test_root_is_confined_only_by_namespaces_in_which_it_sees_none_of_the_hosts_files(
    uid: int, mode: str, wrapped: bool, says: str | None
) -> None:
    why = at_large(uid, FilesystemMode(mode), wrapped=wrapped)
    assert why is None if says is None else why is not None and says in why


@pytest.mark.parametrize("host", [linux(), with_blocked_namespaces()], ids=["namespaces", "Landlock"])
def test_of_root_that_is_not_confined_nothing_is_claimed(host: Any) -> None:
    policy = DEGRADE | {"privilege": {"mode": "inherit"}, "filesystem": {"mode": "off"}}
    report = planned(host, policy).report
    assert not any(report.enforced.model_dump().values())
    assert report.mechanisms == {}
    assert [note.layer for note in report.notes if "nothing is claimed" in note.note] == ["privilege"]


def test_of_root_under_landlock_nothing_is_claimed_in_any_mode() -> None:
    report = planned(with_blocked_namespaces(), DEGRADE | {"privilege": {"mode": "inherit"}}).report
    assert not any(report.enforced.model_dump().values())


# For real


@requires("user namespaces")
async def test_without_overlays_no_whole_file_can_be_locked() -> None:
    host = replace(probe(), overlay=NO_OVERLAY)
    script = (
        "flock -n /usr/bin/env true; : > mine; flock -n mine true; grep -c ' overlay ' /proc/self/mountinfo"
    )
    result = await run_under(
        PolicySnapshot(DEFAULT_POLICY), ScriptRequest(ScriptKind.SHELL, script), capabilities=host
    )

    assert result.stdout == "0\n"
    assert result.stderr.count("Operation not supported") == 2
    assert any("shared with the host" in note.note for note in result.sandbox.notes)


def run_where(prepare: str, script: str) -> RunResult:
    """Run a script by a supervisor in a mount namespace of its own, in which something was mounted before."""
    order = {"policy": {}, "request": {"kind": "shell", "script": script}}
    done = subprocess.run(
        [
            *("unshare", "--mount", "--", "sh", "-c", f'{prepare} && exec "$@"', "sh"),
            *(sys.executable, "-P", world_supervisor.__file__),
        ],
        input=json.dumps(order) + "\n",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    return RunResult.model_validate_json(done.stdout)


@requires("root", "mount namespaces", "user namespaces")
def test_what_is_mounted_beneath_the_systems_directories_is_there_and_stands_in_the_way_of_overlays() -> None:
    mount = "mount -t tmpfs none /usr/local/share && echo mounted >/usr/local/share/word"
    result = run_where(mount, "cat /usr/local/share/word; flock -n /usr/bin/env true")

    assert result.stdout == "mounted\n"
    assert "Operation not supported" in result.stderr
    (said,) = [note.note for note in result.sandbox.notes if "shared with the host" in note.note]
    assert "(/usr/local/share is a separate mount, which the kernel lets no overlay hide)" in said


def test_what_a_killed_supervisor_left_is_removed_by_the_next_one() -> None:
    script = (
        "import os, signal, sys; from ringfence.sandbox.wrappers.bottom import BOTTOM;"
        " print(BOTTOM.path(), flush=True);"
        " os.kill(os.getpid(), signal.SIGKILL) if sys.argv[1] == 'killed' else None"
    )

    def start(how: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", script, how], stdout=subprocess.PIPE, text=True
        ).stdout.strip()

    left = start("killed")
    ended = start("ends")
    assert not os.path.exists(left)
    assert not os.path.exists(ended)


def test_the_bottom_of_overlays_is_empty_reachable_by_all_made_again_if_it_is_gone_and_removed() -> None:
    bottom = Bottom()
    first = bottom.path()
    try:
        assert bottom.path() == first
        assert os.stat(first).st_mode & 0o777 == 0o555
        assert os.listdir(first) == []
        os.rmdir(first)
        second = bottom.path()
        assert second != first
        assert os.path.isdir(second)
    finally:
        bottom.remove()
    assert not os.path.exists(second)
