"""What is decided of the host's sockets that a policy gives, for hosts unlike this one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ringfence.sandbox.capabilities.host_sockets import HostSocket, SocketsFound
from ringfence.sandbox.capabilities.host_view import HostFound, Place
from ringfence.sandbox.plan.furnish import furnish
from ringfence.sandbox.plan.model import Inputs, Interpreter, Reach
from ringfence.sandbox.wrappers.room import Shown

from tests.sandbox.hosts import linux, with_blocked_namespaces
from tests.sandbox.test_plan import DEGRADE, lacking, planned, refused

SOCKET = HostSocket("/run/app.sock", "/run/app-1.sock", 1, 2, 3)
GIVEN = Inputs(Interpreter.SHELL, sockets=SocketsFound((SOCKET,)))
GIVES: dict[str, Any] = {"network": {"allow": ["unix:/run/app.sock"]}}


def test_a_run_with_sockets_alone_has_no_link_and_is_told_what_that_means() -> None:
    made = planned(linux(), GIVES, GIVEN)
    assert (made.sockets, made.reach, made.report.downgrades) == ((SOCKET,), Reach.NOTHING, ())
    assert made.report.mechanisms["sockets"] == "mounted each by itself: /run/app.sock"
    assert any("not counted" in note.note for note in made.report.notes)
    room = furnish(made, files={}, masked=(), bottom=None, program=None)
    assert [step for step in room.steps if isinstance(step, Shown) and "sock" in step.at] == [
        Shown("/run/app-1.sock", "/run/app.sock")
    ]


@pytest.mark.parametrize("differs", [{"device": 9}, {"inode": 9}, {"changed_ns": 9}, {"source": "/run/x"}])
def test_another_socket_at_the_same_path_is_another_plan(differs: dict[str, Any]) -> None:
    other = replace(GIVEN, sockets=SocketsFound((replace(SOCKET, **differs),)))
    assert planned(linux(), GIVES, GIVEN) == planned(linux(), GIVES, GIVEN)
    assert planned(linux(), GIVES, GIVEN) != planned(linux(), GIVES, other)


def test_without_namespaces_no_socket_is_given() -> None:
    made = planned(with_blocked_namespaces(), {**DEGRADE, **GIVES}, GIVEN)
    assert made.sockets == ()
    assert "need namespaces" in " ".join(downgrade.reason for downgrade in made.report.downgrades)


def test_what_is_no_socket_refuses_the_run_by_name() -> None:
    found = SocketsFound(lacking=("unix:/run/app.sock cannot be given: it is no socket",))
    report = refused(linux(), GIVES, replace(GIVEN, sockets=found)).report
    assert lacking(report) == {
        "network": "network.allow: unix:/run/app.sock cannot be given: it is no socket"
    }


@pytest.mark.parametrize(
    "shown",
    [
        HostFound(paths=(Place("/run", "/run", True),)),
        HostFound(witnesses=(Place("/home", "/home/lost+found", True),), place="/var/tmp"),
    ],
)
def test_beside_directories_of_the_host_no_socket_is_given(shown: HostFound) -> None:
    policy = {**GIVES, "filesystem": {"hostPaths": ["/run"], "hostView": ["disks"]}}
    inputs = replace(GIVEN, host=shown)
    assert "every socket in these" in lacking(refused(linux(), policy, inputs).report)["network"]
    made = planned(linux(), {**DEGRADE, **policy}, inputs)
    assert (made.sockets, made.hides_sockets) == ((), True)


def test_beside_single_files_it_is_given_and_nothing_says_that_sockets_are_refused() -> None:
    policy = {**GIVES, "filesystem": {"hostPaths": ["/etc/motd"]}}
    shown = HostFound(paths=(Place("/etc/motd", "/etc/motd", False),))
    made = planned(linux(), policy, replace(GIVEN, host=shown))
    assert (made.sockets, made.hides_sockets) == ((SOCKET,), False)
    assert not any("sockets are refused" in note.note for note in made.report.notes)


def test_what_only_the_supervisors_own_uid_may_have_is_given_to_a_run_with_that_uid() -> None:
    found = SocketsFound((SOCKET,), private="/run/app.sock")
    unprivileged = linux(supervisor_uid=1000, supervisor_gid=1000)
    assert planned(unprivileged, GIVES, GIVEN).uids is not None
    assert planned(unprivileged, GIVES, replace(GIVEN, sockets=found)).uids is None


def test_nothing_is_given_where_the_sandbox_is_off_or_all_is_denied() -> None:
    assert planned(linux(), {**GIVES, "enabled": False}, GIVEN).sockets == ()
    denied = {"network": {"mode": "deny", **GIVES["network"]}}
    assert planned(linux(), denied, GIVEN).sockets == ()
