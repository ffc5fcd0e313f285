"""What is decided of what a policy shows of the host, for hosts unlike this one; and how the policy says it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicyChange, PolicyError, changes, overlay, receive
from ringfence.sandbox.capabilities.found import Missing
from ringfence.sandbox.capabilities.host_view import HostFound, Place, look
from ringfence.sandbox.launch.kept import Kept
from ringfence.sandbox.launch.making.folders import Folder
from ringfence.sandbox.launch.making.skeletons import Skeletons, nodes
from ringfence.sandbox.plan.furnish import furnish
from ringfence.sandbox.plan.model import Inputs, Interpreter
from ringfence.sandbox.policy import Filesystem, HostView
from ringfence.sandbox.wrappers.room import Closed, Furnished, Link, Made, Memory, Proc, Shown

from tests.sandbox.hosts import linux, with_blocked_namespaces
from tests.sandbox.test_plan import DEGRADE, lacking, planned, refused

FOUND = HostFound(
    paths=(Place("/srv", "/srv", True), Place("/etc/motd", "/run/motd", False)),
    witnesses=(Place("/home", "/home/lost+found", True),),
    hidden=(Place("/srv/token", "/srv/token", False),),
    unseen=("/mnt/share",),
    mounts=b"/dev/vda / ext4 rw 0 0\n",
    place="/var/tmp",
    pid=4711,
    entries=("meminfo", "mounts", "net", "self"),
    sealed=("/sys/firmware",),
)
SHOWN = Inputs(Interpreter.SHELL, host=FOUND)
ALL = [each.value for each in HostView]


def seeing(*views: str, paths: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"filesystem": {"hostPaths": list(paths), "hostView": list(views)}}


# The policy


def test_a_policy_that_shows_nothing_of_the_host_is_sent_as_before_there_was_such_a_view() -> None:
    assert DEFAULT_POLICY.to_wire()["filesystem"] == {"mode": "scratch-plus-ro"}
    shows = overlay(DEFAULT_POLICY, seeing("disks", paths=("/srv",)))
    assert shows.to_wire()["filesystem"] == {
        "mode": "scratch-plus-ro",
        "hostPaths": ["/srv"],
        "hostView": ["disks"],
    }
    assert overlay(shows, {"filesystem": {"hostPaths": [], "hostView": []}}) == DEFAULT_POLICY


def test_a_change_of_it_is_told_from_nothing() -> None:
    shows = overlay(DEFAULT_POLICY, seeing(paths=("/srv", "/srv")))
    assert changes(DEFAULT_POLICY, shows) == (PolicyChange("filesystem.hostPaths", [], ["/srv"]),)
    assert overlay(shows, {"enabled": True}).filesystem.host_paths == ("/srv",)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("srv", "is not an absolute path"),
        ("/srv/", "write /srv"),
        ("//srv", "write /srv"),
        ("/srv/../etc", "write /etc"),
        ("/srv\n", "cannot be printed"),
        ("/proc", "filesystem.hostView"),
        ("/sys/class/net", "filesystem.hostView"),
        ("/dev/sda", "devices of its own"),
        ("/tmp", "one of its own"),
        ("/tmp/scratch/x", "one of its own"),
        ("/packages/python", "one of its own"),
    ],
)
def test_what_is_no_path_to_be_shown_is_refused_when_it_is_written(path: str, why: str) -> None:
    with pytest.raises(PolicyError, match=why):
        overlay(DEFAULT_POLICY, seeing(paths=(path,)))


def test_of_a_newer_sender_nothing_is_shown_that_is_not_understood() -> None:
    wire = {
        **DEFAULT_POLICY.to_wire(),
        "filesystem": {"mode": "scratch-only", "hostView": ["disks", "memory"]},
    }
    received = receive(wire)
    assert received.not_understood == ("filesystem.hostView",)
    assert received.policy.filesystem.host_view == ()


# The plan


def test_what_is_shown_is_told_with_what_it_costs() -> None:
    made = planned(linux(), seeing(*ALL, paths=("/srv", "/etc/motd")), SHOWN)
    assert made.host_view == set(HostView)
    assert made.shares_files
    assert made.report.mechanisms["hostPaths"].endswith(": /srv, /etc/motd")
    assert made.report.mechanisms["hostView"].endswith(": processes, disks, network")
    assert "nothing else" not in made.report.mechanisms["filesystem"]
    told = " ".join(note.note for note in made.report.notes)
    assert "Unix sockets are refused" in told
    assert "/mnt/share" in told


def test_by_default_the_room_is_what_it_was() -> None:
    made = planned(linux())
    assert (made.host, made.host_view, made.shares_files) == (None, frozenset(), False)


def test_without_namespaces_nothing_is_shown_by_itself() -> None:
    for partial in (seeing("disks"), seeing(paths=("/srv",))):
        report = planned(with_blocked_namespaces(), {**DEGRADE, **partial}, SHOWN).report
        assert "need namespaces" in lacking(report)["filesystem"]


def test_what_is_not_there_refuses_the_run_by_name() -> None:
    inputs = Inputs(
        Interpreter.SHELL, host=HostFound(lacking=("/srv cannot be shown: No such file or directory",))
    )
    report = refused(linux(), seeing(paths=("/srv",)), inputs).report
    assert lacking(report) == {
        "filesystem": "filesystem.hostPaths: /srv cannot be shown: No such file or directory"
    }


@pytest.mark.parametrize(
    ("differences", "partial", "found", "why"),
    [
        ({"uids": Missing("none is mapped")}, {}, FOUND, "no uid of their own"),
        ({}, {"privilege": {"uid": 1000}}, FOUND, "no uid of their own"),
        ({}, {"privilege": {"mode": "inherit"}}, FOUND, "no uid of their own"),
        ({}, {}, HostFound(hides_processes=True), "hidepid"),
    ],
)
def test_processes_are_shown_only_to_a_uid_of_the_runs_own(
    differences: dict[str, Any], partial: dict[str, Any], found: HostFound, why: str
) -> None:
    inputs = Inputs(Interpreter.SHELL, host=found)
    made = planned(linux(**differences), {**DEGRADE, **partial, **seeing("processes")}, inputs)
    assert why in lacking(made.report)["filesystem"]
    assert made.host_view == frozenset()


def test_disks_need_a_place_on_the_file_system_of_the_root() -> None:
    inputs = Inputs(Interpreter.SHELL, host=HostFound(entries=("meminfo",)))
    assert "file system of /" in lacking(refused(linux(), seeing("disks"), inputs).report)["filesystem"]


def test_a_path_that_only_the_supervisor_can_reach_leaves_runs_its_uid() -> None:
    inputs = Inputs(Interpreter.SHELL, host=HostFound(private="/home/ana/data"))
    made = planned(linux(supervisor_uid=1000, supervisor_gid=1000), seeing(paths=("/home/ana/data",)), inputs)
    assert made.uids is None
    assert any("/home/ana/data, which the policy shows" in note.note for note in made.report.notes)


def test_everything_of_the_hosts_own_is_closed_or_masked_again() -> None:
    made = planned(linux(), seeing(*ALL, paths=("/srv", "/etc/motd")), SHOWN)
    steps = furnish(
        made, files={"/etc/motd": b"made"}, masked=("/proc/kcore",), bottom=None, program=None
    ).steps
    at = [getattr(step, "at", "/") for step in steps]
    assert Proc("/proc/own") in steps
    assert {"/proc/own/kcore", "/proc/host/kcore", "/proc/own/1", "/sys/firmware", "/srv/token"} <= set(at)
    assert Shown("/home/lost+found", "/home") in steps
    assert Shown("/run/motd", "/etc/motd") in steps
    assert Made("/etc/mtab", FOUND.mounts) in steps
    assert not any(isinstance(step, Made) and step.at == "/etc/motd" for step in steps)
    assert at.index("/srv") < at.index("/srv/token")
    assert [step.at for step in steps if isinstance(step, Furnished)] == ["/dev", "/etc"]
    assert [step.at for step in steps if isinstance(step, Closed)] == ["/dev", "/etc"]


# What is found and made


def test_a_secret_of_the_supervisors_is_covered_wherever_it_is_shown(tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    (shown / "data").mkdir(parents=True)
    (shown / "token").touch()
    (tmp_path / "elsewhere").touch()
    for directory in (shown, *shown.parents):
        if directory.stat().st_uid == os.geteuid():
            directory.chmod(directory.stat().st_mode | 0o001)
    kept = Kept()
    kept.add(shown / "data", shown / "token", tmp_path / "elsewhere", tmp_path / "nothing")
    found = look(Filesystem(host_paths=(str(shown),)), kept.paths())
    hidden = {place.at: place.is_directory for place in found.hidden}
    assert hidden == {f"{shown}/data": True, f"{shown}/token": False}


def test_the_skeleton_of_a_root_has_a_place_for_each_mount_and_nothing_else(tmp_path: Path) -> None:
    steps = (
        Furnished("/etc"),
        Shown("/usr", "/usr"),
        Link("/bin", "usr/bin"),
        Made("/etc/hosts", b""),
        Shown("/srv/data", "/srv/data"),
        Shown("/srv/file", "/srv/file"),
        Memory("/tmp", 1, 0o1777),
        Shown("/tmp/x", "/tmp/x"),
    )
    wanted = nodes(steps, frozenset({"/srv/file"}))
    skeletons = Skeletons()
    path = Path(skeletons.path(str(tmp_path), wanted))
    assert skeletons.path(str(tmp_path), wanted) == str(path)
    made = sorted(str(each.relative_to(path)) for each in path.rglob("*"))
    assert made == ["bin", "etc", "srv", "srv/data", "srv/file", "tmp", "usr"]
    assert (path / "srv/file").is_file()
    assert os.readlink(path / "bin") == "usr/bin"
    skeletons.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_goes_with_the_one_for_its_proc(tmp_path: Path) -> None:
    folder = Folder(f"{tmp_path}/one")
    folder.proc = Folder(f"{tmp_path}/other")
    folder.proc.directory("own")
    folder.proc.link("self", "own/self")
    folder.close()
    assert list(tmp_path.iterdir()) == []
