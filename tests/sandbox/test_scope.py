"""A transient scope of systemd: where one is asked for, in what words, and that nothing but this process holds it.

What a real systemd does is in `tests/cgroups/test_scope.py`.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot
from ringfence.sandbox.limits.cgroups import delegation, groups, legacy, scope
from ringfence.sandbox.limits.cgroups.delegation import NotDelegated
from ringfence.sandbox.plan.decide import plan
from ringfence.sandbox.plan.model import Inputs, Interpreter, Plan

from tests.sandbox.hosts import cgroup, linux
from tests.waiting import next_line, wait_until

NAME = "ringfence-7-0123456789abcdef.scope"
SYSTEMD_RUN = f"""#!/bin/sh
echo 0::/some.slice/{NAME}
exec cat >/dev/null 2>&1
"""
"""What systemd-run becomes, when systemd has made the scope."""

LOGIN = "/user.slice/user-1000.slice/session-3.scope"
TERMINAL = "/user.slice/user-1000.slice/user@1000.service/app.slice/app-terminal-1.scope"


def test_a_name_is_one_that_systemd_takes_and_that_nobody_else_has() -> None:
    names = {scope.unit_name() for _ in range(100)}
    assert len(names) == 100
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9:_.\\-]{1,255}", name), "systemd.unit(5)"


@pytest.mark.parametrize("own", ["/", "/init.scope", LOGIN, "/user.slice/user-0.slice/session-c1.scope"])
def test_root_asks_from_where_nothing_is_limited(own: str) -> None:
    assert scope.why_not_from(own, 0) is None


@pytest.mark.parametrize(
    "own",
    [
        "/system.slice/ringfence.service",
        "/system.slice/docker-0123.scope",
        "/system.slice/docker-0123.scope/init.scope",
        "/kubepods/burstable/pod1/0123",
        "/docker/0123",
        f"{LOGIN}/inner",
        TERMINAL,
        "/../session-3.scope",
    ],
)
def test_nobody_leaves_a_cgroup_that_may_be_limited(own: str) -> None:
    why = scope.why_not_from(own, 0)
    assert why is not None
    assert "would not hold in a scope beside it" in why


def test_nobody_leaves_a_session_that_is_limited_itself(tmp_path: Path) -> None:
    for name, value in {"memory.max": "max", "memory.high": "1048576", "cpu.max": "50000 100000"}.items():
        (tmp_path / name).write_text(f"{value}\n")
    limits = scope.limits_of(tmp_path)
    assert limits == ["memory.high", "cpu.max"]
    why = scope.why_not_from(LOGIN, 0, limits)
    assert why == f"memory.high, cpu.max of {LOGIN} would not hold in a scope beside it"


def test_a_user_asks_from_within_the_users_own_manager() -> None:
    assert scope.why_not_from(TERMINAL, 1000) is None
    in_a_service = scope.why_not_from(TERMINAL.replace(".scope", ".service"), 1000)
    assert in_a_service is not None
    assert "give it Delegate=yes" in in_a_service
    elsewhere = scope.why_not_from(LOGIN, 1000)
    assert elsewhere is not None
    assert "systemd-run --user --scope" in elsewhere


@pytest.mark.parametrize("uid", [0, 1000])
def test_what_is_asked_for(uid: int) -> None:
    words = scope.command("/usr/bin/systemd-run", NAME, uid)
    assert {"--scope", "--collect", "--no-ask-password", f"--unit={NAME}"} <= set(words)
    assert "--property=Delegate=memory pids" in words
    assert ("--user" in words, "--slice-inherit" in words) == (uid != 0, uid == 0)
    assert "$" not in " ".join(words), "systemd-run would replace it"


def test_the_report_says_where_the_cgroup_is() -> None:
    def said(*, is_scope: bool) -> str:
        host = linux(cgroup=cgroup(f"/sys/fs/cgroup/user.slice/{NAME}", is_scope=is_scope))
        planned = plan(host, PolicySnapshot(DEFAULT_POLICY), Inputs(Interpreter.SHELL))
        assert isinstance(planned, Plan)
        return planned.report.mechanisms["memoryBytes"]

    assert "own cgroup in a transient scope of systemd," in said(is_scope=True)
    assert "own cgroup, without" in said(is_scope=False)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a program in the place of systemd-run, that makes the scope's directory or does not."""
    monkeypatch.setattr(delegation, "directory_of", lambda path: tmp_path / Path(path).name)
    (tmp_path / NAME).mkdir()

    def write(text: str) -> str:
        path = tmp_path / "systemd-run"
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    return write


def test_a_scope_holds_until_it_is_closed(program: Callable[[str], str]) -> None:
    made = scope.Scope(program(SYSTEMD_RUN), os.environ, NAME)
    assert made.holds
    keeper = made._keeper.pid
    assert os.getsid(keeper) == keeper, "what a terminal sends to the supervisor is not for it"
    made.close()
    assert not made.holds
    assert not Path(f"/proc/{keeper}").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#!/bin/sh\necho Failed to start: Access denied >&2; exit 1\n", "^Failed to start: Access denied$"),
        ("#!/bin/sh\necho 0::/user.slice/session-3.scope\n", "0::/user.slice/session-3.scope"),
        ("#!/bin/sh\n", "systemd-run said nothing"),
        ("#!/bin/sh\nexec sleep 1000\n", "within 0 s"),
    ],
)
def test_what_cannot_be_had_is_told_and_leaves_no_process(
    program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    monkeypatch.setattr(scope, "TIMEOUT_S", 0.2 if "sleep" in text else 30)
    started = []

    class Remembered(subprocess.Popen[bytes]):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[call-overload]
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Remembered)
    with pytest.raises(NotDelegated, match=reason):
        scope.Scope(program(text), os.environ, NAME)
    assert [each.returncode is None for each in started] == [False]


HOLDER = f"""
import os, sys, time
from pathlib import Path
from ringfence.sandbox.limits.cgroups import delegation
from ringfence.sandbox.limits.cgroups import scope
delegation.directory_of = lambda path: Path('/')
scope._held = scope.Scope(sys.argv[1], os.environ, '{NAME}')
child = os.fork()
if child:
    print(scope._held._keeper.pid, child, flush=True)
time.sleep(1000)
"""


def test_a_killed_supervisor_holds_no_scope_and_neither_does_what_it_forked(
    program: Callable[[str], str],
) -> None:
    words = [sys.executable, "-c", HOLDER, program(SYSTEMD_RUN)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        keeper, forked = map(int, next_line(holder.stdout, "the keeper").split())
        watched = os.pidfd_open(keeper)
        try:
            assert not has_ended(watched)
            holder.kill()
            holder.wait()
            wait_until(lambda: has_ended(watched), "the keeper has ended")
            os.kill(forked, 0)
        finally:
            os.kill(forked, signal.SIGKILL)
            os.close(watched)


def has_ended(pidfd: int) -> bool:
    """Whether a process has, which need not be our own."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def listening(at: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(at))
    listener.listen()
    return listener


def test_a_systemd_that_cannot_be_told_our_pids_is_not_asked(tmp_path: Path) -> None:
    with pytest.raises(NotDelegated, match="does not answer: No such file"):
        scope._check_manager(tmp_path / "private", 0)
    with listening(tmp_path / "private"):
        with pytest.raises(NotDelegated, match="not the systemd of our own processes"):
            # It is of another user than the one who asks, and it is not process 1.
            scope._check_manager(tmp_path / "private", 0 if os.geteuid() else 1000)
        if os.geteuid() == 0:
            with pytest.raises(NotDelegated, match="not the systemd of our own processes"):
                scope._check_manager(tmp_path / "private", 0)
        assert scope._is_of_our_namespace(os.getpid())
        assert not scope._is_of_our_namespace(0)


def test_whoever_names_a_cgroup_gets_no_scope_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(scope, "obtain", lambda: asked.append(True))
    monkeypatch.setattr(legacy, "limits_memory", lambda: False)
    with pytest.raises(NotDelegated, match=r"/nonexistent is not a cgroup v2$"):
        groups.find("/nonexistent")
    assert asked == []


def test_all_that_was_tried_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(delegation, "own_cgroup", lambda: tmp_path)
    monkeypatch.setattr(scope, "BOOTED", tmp_path / "none")
    with pytest.raises(
        NotDelegated, match=r"not delegated to us.*; no transient scope of systemd: systemd is not running"
    ):
        groups.find(None)
