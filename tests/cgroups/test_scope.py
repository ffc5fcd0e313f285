"""A scope that a supervisor asks systemd for: what holds in it, that it is nobody else's, and that it ends with it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from ringfence.sandbox.limits.cgroups import delegation, scope
from ringfence.sandbox.limits.cgroups.unified import UnifiedGroup
from ringfence.scripts import Stopped

from tests.cgroups import units
from tests.cgroups.conftest import Start
from tests.cgroups.test_delegation import SUMMED, mechanism, script_runs_in
from tests.cgroups.test_groups import BOMB as FORKS
from tests.cgroups.test_groups import running
from tests.cgroups.test_limits import BOMB, POLICY, SCRATCH
from tests.escapes import reach
from tests.escapes.conftest import Supervisor
from tests.primitives import lacking, requires
from tests.waiting import PATIENCE_SECONDS, next_line, wait_until

pytestmark = requires("root", "running systemd")

MiB = 1024 * 1024
IN_A_SCOPE = "memory.max of the run's own cgroup in a transient scope of systemd"
ROOT = Path("/sys/fs/cgroup")
MANAGER = "user@6553299.service"


def systemctl(*words: str) -> str:
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=True).stdout


def scopes(of: subprocess.Popen[str] | None = None) -> list[Path]:
    """The cgroups of scopes, of one supervisor or of all."""
    while True:
        # What is looked through may be going at that moment, with the run that it was of.
        with contextlib.suppress(FileNotFoundError):
            return list(ROOT.rglob(f"ringfence-{of.pid if of else '*'}-*.scope"))


@contextlib.contextmanager
def scope_for(
    name: str, *words: str, group: Path = ROOT, uid: int = 0, environment: Mapping[str, str] = os.environ
) -> Iterator[Path]:
    """A scope that is not delegated, to start supervisors in; asked for by a user, from a cgroup."""
    asking = ["systemd-run", *words, "--quiet", "--scope", "--collect", f"--unit={name}", "--", "sh", "-c"]
    command = [*asking, "cat /proc/self/cgroup; exec cat >/dev/null"]
    with units.start(group, uid, command, environment) as keeper:
        path = ROOT / next_line(keeper.stdout, "where it is").strip().removeprefix("0::/")
        assert path.name == name
        yield path
        assert keeper.stdin is not None
        keeper.stdin.close()


@pytest.fixture
def session() -> Iterator[Path]:
    """What a login session is to systemd."""
    with scope_for(f"session-{secrets.token_hex(4)}.scope", "--slice=ringfence_test.slice") as path:
        yield path


@pytest.fixture
def supervised(session: Path, start: Start) -> Iterator[subprocess.Popen[str]]:
    """A supervisor of root's in a session."""
    with start(session) as process:
        yield process


def begin(process: subprocess.Popen[str], script: str) -> None:
    """Begin to run a script, and wait until it runs in the supervisor's scope."""
    order = Supervisor(process, 0, warm=False).order("shell", script, timeout_ms=60_000)
    assert process.stdin is not None
    process.stdin.write(json.dumps([order]) + "\n")
    process.stdin.flush()
    wait_until(lambda: any(script_runs_in(path) for path in scopes(process)), "the script runs")


def processes(group: Path) -> set[str]:
    """All in a cgroup and below it."""
    found = set()
    for path in (group, *group.rglob("*/")):
        with contextlib.suppress(OSError):
            found |= set((path / "cgroup.procs").read_text().split())
    return found


def test_a_supervisor_without_a_cgroup_is_given_a_scope_beside_it(
    session: Path, supervised: subprocess.Popen[str]
) -> None:
    assert IN_A_SCOPE in mechanism(supervised)
    (own,) = scopes(supervised)
    assert own.parent == session.parent, "what limits the slice holds"
    assert str(supervised.pid) in (session / "cgroup.procs").read_text().split()
    assert (own / "cgroup.procs").read_text() == ""
    assert len((own / "supervisor/cgroup.procs").read_text().split()) == 1
    shown = systemctl("show", own.name, "--property=Delegate,CollectMode,TasksMax").split()
    assert set(shown) == {"Delegate=yes", "CollectMode=inactive-or-failed", "TasksMax=infinity"}


def test_one_that_is_in_no_unit_is_given_one_too(start: Start) -> None:
    with start(ROOT) as process:
        assert IN_A_SCOPE in mechanism(process)


def test_a_service_is_told_to_delegate(start: Start) -> None:
    """A scope beside it would not be under the limits of the service."""
    own = delegation.own_cgroup()
    if not own.name.endswith(".service"):
        lacking("these tests do not run in a service")
    with start(own) as process:
        assert SUMMED in mechanism(process)
    script = "from ringfence.sandbox.capabilities import primitives; primitives.delegated_cgroup()"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stderr
    assert "give it Delegate=yes" in said


def test_the_kernel_ends_a_run_for_memory_that_no_look_would_find(supervised: subprocess.Popen[str]) -> None:
    result = Supervisor(supervised, 0, warm=False).run("python", SCRATCH, policy=POLICY)
    assert (result.stopped, result.exit_code) == (Stopped.MEMORY, -9), result.stdout + result.stderr
    warm = Supervisor(supervised, 0, warm=True).run("python", SCRATCH, policy=POLICY)
    assert warm.stopped is Stopped.MEMORY


def test_processes_are_capped(supervised: subprocess.Popen[str]) -> None:
    result = Supervisor(supervised, 0, warm=False).run(
        "python", BOMB, policy={"resources": {"maxProcesses": 20}}
    )
    assert int(result.stdout) == 19


def test_a_fork_bomb_is_held_by_the_kernels_count_of_the_scopes_child() -> None:
    """Without the other limit that a run has on its processes."""
    made = scope.Scope(shutil.which("systemd-run") or "", os.environ, scope.unit_name())
    try:
        delegation.make_ready(made.path)
        group = UnifiedGroup(made.path, memory_bytes=256 * MiB, processes=5)
        with running(group, [sys.executable, "-IS", "-c", FORKS]) as process:
            assert next_line(process.stdout, "that it is full") == "full\n"
            assert (group.path / "pids.events").read_text() != "max 0\n"
            group.close()
    finally:
        made.close()
    wait_until(lambda: not made.path.exists(), "systemd has removed the scope")


@pytest.mark.parametrize("end", ["kill", "terminate", "by itself"])
def test_nothing_is_left_of_a_supervisor_however_it_ends(session: Path, start: Start, end: str) -> None:
    with start(session) as process:
        if end == "by itself":
            mechanism(process)
        else:
            begin(process, "setsid sleep 1000 & sleep 1000")
        (own,) = scopes(process)
        inside = processes(own)
        assert inside
        if end == "by itself":
            assert process.stdin is not None
            process.stdin.close()
        else:
            getattr(process, end)()
        process.wait(PATIENCE_SECONDS)
        wait_until(lambda: not own.exists(), "systemd has removed the scope")
        wait_until(lambda: not any(Path("/proc", pid).exists() for pid in inside), "all have ended")
        assert own.name not in systemctl("list-units", "--all", "--plain", "ringfence-*")


def test_two_supervisors_have_a_scope_each_and_one_outlives_the_other(session: Path, start: Start) -> None:
    with start(session) as first, start(session) as second:
        begin(first, "sleep 1000")
        begin(second, "mkfifo ~/fifo; read line <~/fifo")
        (of_first,), (of_second,) = scopes(first), scopes(second)
        assert of_first != of_second
        first.kill()
        wait_until(lambda: not of_first.exists(), "systemd has removed the scope")
        assert script_runs_in(of_second)
        (run,) = units.runs_in(of_second)
        (run / "cgroup.kill").write_text("1")
        result = json.loads(next_line(second.stdout, "the result"))["results"][0]
        assert result["exitCode"] == 128 + 9
        assert IN_A_SCOPE in mechanism(second)


def test_a_scope_that_somebody_has_stopped_is_made_anew(supervised: subprocess.Popen[str]) -> None:
    begin(supervised, "sleep 1000")
    (own,) = scopes(supervised)
    before = processes(own)
    systemctl("stop", own.name)
    assert json.loads(next_line(supervised.stdout, "the result"))["results"][0]["exitCode"] != 0
    assert IN_A_SCOPE in mechanism(supervised)
    assert scopes(supervised) == [own]
    assert not processes(own) & before


def test_a_scope_whose_controllers_somebody_took_away_is_made_ready_again(
    supervised: subprocess.Popen[str],
) -> None:
    assert IN_A_SCOPE in mechanism(supervised)
    (own,) = scopes(supervised)
    (own / "cgroup.subtree_control").write_text("-memory")
    result = Supervisor(supervised, 0, warm=False).run("python", SCRATCH, policy=POLICY)
    assert result.stopped is Stopped.MEMORY


def test_a_scope_stays_when_systemd_reads_its_units_anew(supervised: subprocess.Popen[str]) -> None:
    begin(supervised, "mkfifo ~/fifo; read line <~/fifo")
    (own,) = scopes(supervised)
    (run,) = units.runs_in(own)
    limit = (run / "memory.max").read_text()
    systemctl("daemon-reload")
    assert limit == (run / "memory.max").read_text() != "max\n"
    (run / "cgroup.kill").write_text("1")
    assert json.loads(next_line(supervised.stdout, "the result"))["results"][0]["exitCode"] == 128 + 9
    result = Supervisor(supervised, 0, warm=False).run("python", SCRATCH, policy=POLICY)
    assert result.stopped is Stopped.MEMORY
    assert scopes(supervised) == [own]


def test_a_systemd_of_another_pid_namespace_is_not_asked() -> None:
    """It would take our pids for those of others."""
    ask = f"""
from pathlib import Path
Path('{ROOT}/cgroup.procs').write_text('0')
from ringfence.sandbox.limits.cgroups import scope
scope.obtain()
"""
    apart = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", ask]
    asked = subprocess.run(apart, capture_output=True, text=True)
    assert "is not the systemd of our own processes" in asked.stderr
    assert scopes() == []


@pytest.fixture
def manager() -> Iterator[dict[str, str]]:
    """The manager of an ordinary user, as a login would start it; what there is in the environment then."""
    runtime = Path("/run/user", str(reach.OTHER_UID))
    runtime.mkdir(parents=True)
    (runtime / "default.target").write_text("[Unit]\nDefaultDependencies=no\n")
    os.chown(runtime, reach.OTHER_UID, reach.OTHER_UID)
    environment = {"XDG_RUNTIME_DIR": str(runtime)}
    # It knows of no units but those that it is asked for.
    alone = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "SYSTEMD_UNIT_PATH": str(runtime)}
    command = ["/usr/lib/systemd/systemd", "--user"]
    try:
        with (
            units.unit(reach.OTHER_UID, name=MANAGER) as unit,
            units.start(unit, reach.OTHER_UID, command, {**environment, **alone}) as process,
        ):
            wait_until(lambda: listens(runtime / "systemd/private"), "the manager listens")
            yield environment
            process.kill()
    finally:
        shutil.rmtree(runtime)


def listens(at: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        return connection.connect_ex(str(at)) == 0


@pytest.fixture
def terminal(manager: dict[str, str]) -> Iterator[Path]:
    """What a desktop's terminal is to the user's manager."""
    own = ROOT / MANAGER / "init.scope"
    environment = {**os.environ, **manager}
    with scope_for(
        "app-test.scope", "--user", group=own, uid=reach.OTHER_UID, environment=environment
    ) as path:
        yield path


def test_an_ordinary_user_is_given_a_scope_by_the_users_own_manager(
    manager: dict[str, str], terminal: Path, start: Start
) -> None:
    with start(terminal, reach.OTHER_UID, manager) as process:
        assert IN_A_SCOPE in mechanism(process, reach.OTHER_UID)
        (own,) = scopes(process)
        assert MANAGER in own.parts
        supervisor = Supervisor(process, reach.OTHER_UID, warm=False)
        assert supervisor.run("python", SCRATCH, policy=POLICY).stopped is Stopped.MEMORY
        begin(process, "sleep 1000")
        process.kill()
        wait_until(lambda: not own.exists(), "systemd has removed the scope")


def test_an_ordinary_user_in_a_login_session_goes_without(
    manager: dict[str, str], session: Path, start: Start
) -> None:
    """The kernel lets nobody but root move processes from there to what is the manager's."""
    with start(session, reach.OTHER_UID, manager) as process:
        assert SUMMED in mechanism(process, reach.OTHER_UID)
        assert scopes(process) == []
