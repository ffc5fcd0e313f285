"""A supervisor without root gives each run a uid of its own, where an administrator has set some aside for its user."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.capabilities.advice import advice
from ringfence.sandbox.capabilities.found import Missing, Uids
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.subordinates import Subordinates, chosen, listed
from ringfence.sandbox.identities.uids import SubordinateRange
from ringfence.sandbox.plan.decide import plan
from ringfence.sandbox.plan.model import Inputs, Interpreter, Plan

from tests.escapes import reach
from tests.escapes.conftest import Supervisor
from tests.primitives import lacking, requires
from tests.sandbox.hosts import cgroup, linux
from tests.sandbox.test_quotas import HOARD, ORDINARY, ROOM, has_hoarded
from tests.waiting import PATIENCE_SECONDS, wait_until

FIRST, COUNT = 1_700_000_000 + os.getpid() % 10_000 * 1000, 1000
"""A range of this process's tests alone."""

RANGE = f"{reach.OTHER_UID}:{FIRST}:{COUNT}\n"
GIDS = f"subordinated:{FIRST + 10**8}:{COUNT + 7}\n"

needs_them = requires("root", "user namespaces", "mount namespaces", "subordinate ids")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("ana:100000:65536\nben:200000:65536\n", [(100_000, 65536)]),
        ("1001:100000:10\nana:300000:20\n", [(100_000, 10), (300_000, 20)]),
        ("ana:100000\nana:x:5\nana:-1:5\n# ana:1:2\n", []),
    ],
)
def test_a_range_is_given_to_a_name_or_to_a_number(text: str, found: list[tuple[int, int]]) -> None:
    assert list(listed(text, ("1001", "ana"))) == found


@pytest.mark.parametrize(
    ("uids", "gids", "expected"),
    [
        ([(100_000, 65536)], [(100_000, 65536)], Subordinates(100_000, 100_000, 65536)),
        ([(100_000, 500), (5000, 100)], [(5000, 50), (300_000, 900)], Subordinates(5000, 5000, 50)),
        ([(100_000, 500)], [(300_000, 90)], Subordinates(100_000, 300_000, 90)),
        ([(100_000, 10**6)], [(100_000, 10**6)], Subordinates(100_000, 100_000, 65536)),
        ([(100_000, 15)], [(100_000, 65536)], None),
        ([(900, 500)], [(900, 500)], None),
        ([(60_000, 6000)], [(60_000, 6000)], None),
        ([(0, 500)], [(0, 500)], None),
        ([(100_000, 65536)], [], None),
    ],
    ids=[
        "same",
        "the same before more",
        "paired",
        "no more than needed",
        "few",
        "our own",
        "nobody",
        "root",
        "no gids",
    ],
)
def test_uids_and_gids_are_taken_from_ranges_that_leave_out_ourselves(
    uids: list[tuple[int, int]], gids: list[tuple[int, int]], expected: Subordinates | None
) -> None:
    assert chosen(uids, gids, (1001, 1001)) == expected


def planned(policy: dict[str, Any], inputs: Inputs, **differences: object) -> tuple[Plan, str]:
    """The plan of a supervisor that is not root and has subordinate ids, and what it notes about privilege."""
    differences = {"uids": Uids(SubordinateRange(100000, 165535, Identity(1001, 1001))), **differences}
    host = linux(supervisor_uid=1001, supervisor_gid=1001, **differences)
    made = plan(host, PolicySnapshot(overlay(DEFAULT_POLICY, policy)), inputs)
    assert isinstance(made, Plan)
    return made, " ".join(note.note for note in made.report.notes if note.layer == "privilege")


SHELL = Inputs(Interpreter.SHELL)


@pytest.mark.parametrize(
    ("policy", "inputs", "differences", "why"),
    [
        ({"privilege": {"uid": 1001}}, SHELL, {}, "the policy names privilege.uid"),
        ({"filesystem": {"mode": "off"}}, SHELL, {}, "which are the supervisor's own"),
        (
            {"filesystem": {"mode": "scratch-plus-ro"}},
            Inputs(Interpreter.SHELL, "/home/ana/packages", packages_private=True),
            {},
            "no other uid can reach the packages in /home/ana/packages",
        ),
        ({}, SHELL, {"cgroup": cgroup("/a", "/b")}, "only root can move processes"),
        ({}, SHELL, {"uids": Missing(reason="newuidmap is not installed")}, "newuidmap is not installed"),
        ({"onUnavailable": "degrade"}, SHELL, {"wrapper": Missing(reason="none")}, "without namespaces"),
    ],
    ids=["named", "off", "packages", "cgroup", "none", "plain"],
)
def test_what_takes_the_supervisors_own_uid_is_said_where_runs_share_it(
    policy: dict[str, Any], inputs: Inputs, differences: dict[str, Any], why: str
) -> None:
    made, note = planned(policy, inputs, **differences)

    assert made.uids is None
    assert made.identity == (1001, 1001)
    assert "runs share uid 1001 with their supervisor" in note
    assert why in note


def test_with_subordinate_uids_the_report_names_them_and_no_shared_quota() -> None:
    made, note = planned({}, SHELL)

    assert str(made.uids) == "100000-165535"
    assert made.identity == (65532, 65532)
    assert "subordinate uids 100000-165535" in made.report.mechanisms["privilege"]
    assert "share" not in note


def test_an_admin_is_told_how_to_get_them() -> None:
    host = linux(supervisor_uid=1001, uids=Missing(reason="newuidmap is not installed"))
    (told,) = [each for each in advice(host) if each.primitive == "uids"]

    assert told.reason == "newuidmap is not installed"
    assert "apt-get install uidmap" in told.remedy
    assert "/etc/subuid and to /etc/subgid" in told.remedy


START_FIRST = """
set -e
mount --make-rprivate /
"""
START = """
for name in passwd subuid subgid; do mount --bind "$1/$name" "/etc/$name"; done
for name in newuidmap newgidmap; do
    if [ -e "$1/$name" ]; then mount --bind "$1/$name" "$(command -v $name)"; fi
done
shift
exec setpriv --reuid="$1" --regid="$1" --clear-groups -- "$2" "$3"
"""


class Subordinate:
    """Supervisors of an ordinary user in a mount namespace of their own, with an `/etc/subuid` of the tests' own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.home = place / "home"
        self.home.mkdir()
        os.chown(self.home, reach.OTHER_UID, reach.OTHER_UID)
        package = place / "package"
        package.mkdir()
        reach.copy_package(package)
        self.package = package

    @contextlib.contextmanager
    def supervisor(self, *, subuid: str = RANGE, first: str = "", **programs: str) -> Iterator[Supervisor]:
        """One, with such a file, and those programs in place of the machine's; `first` is done before, by root."""
        python = reach.reachable_python(self.package)
        if python is None:
            lacking(
                f"no Python {sys.version_info[0]}.{sys.version_info[1]} that uid {reach.OTHER_UID} can run"
            )
        etc = Path(tempfile.mkdtemp(dir=self.place))
        user = f"subordinated:x:{reach.OTHER_UID}:{reach.OTHER_UID}::{self.home}:/bin/sh\n"
        texts = {
            "passwd": Path("/etc/passwd").read_text() + user,
            "subuid": subuid,
            "subgid": GIDS,
            **programs,
        }
        for name, text in texts.items():
            (etc / name).write_text(text)
            (etc / name).chmod(0o755 if name in programs else 0o644)
        with subprocess.Popen(
            [
                *(
                    "unshare",
                    "--mount",
                    "sh",
                    "-c",
                    f"{START_FIRST}{first}\n{START}",
                    "sh",
                    str(etc),
                    str(reach.OTHER_UID),
                ),
                *(python, str(self.package / "supervisor.py")),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=reach.environment(self.package),
            cwd="/",
        ) as process:
            yield Supervisor(process, reach.OTHER_UID, warm=False)
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.wait(PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def subordinate() -> Iterator[Subordinate]:
    place = Path(tempfile.mkdtemp(prefix="ringfence-subordinate-"))
    place.chmod(0o755)
    try:
        yield Subordinate(place)
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def supervisor(subordinate: Subordinate) -> Iterator[Supervisor]:
    """One that has such uids, for all tests that leave it as it is."""
    with subordinate.supervisor() as made:
        yield made


def owners(of: Callable[[Path], bool] = lambda _: True) -> dict[int, int]:
    """Who owns which process, of those in the range."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if FIRST <= (owner := process.stat().st_uid) < FIRST + COUNT and of(process):
                found[int(process.name)] = owner
    return found


def sleepers(mark: str) -> dict[int, int]:
    return owners(lambda process: (process / "cmdline").read_bytes() == f"sleep\0{mark}\0".encode())


def gone() -> bool:
    """Whether nobody runs with a uid of the range."""
    return not owners()


@needs_them
def test_two_runs_at_once_have_uids_of_their_own_and_can_signal_none_of_the_supervisors_processes(
    supervisor: Supervisor,
) -> None:
    script = "id -u; id -G; exec sleep 1001.5"
    supervisor.begin([supervisor.order("shell", script, timeout_ms=60_000) for _ in range(2)])
    wait_until(lambda: len(sleepers("1001.5")) == 2, "two runs")
    running = sleepers("1001.5")
    theirs = [*_ours(supervisor.pid), supervisor.pid]
    for uid in running.values():
        words = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--", "sh", "-c"]
        refused = 'for pid; do kill -0 "$pid" 2>/dev/null && echo "$pid"; done; true'
        done = subprocess.run(
            [*words, refused, "sh", *map(str, theirs)], capture_output=True, text=True, check=True
        )
        assert done.stdout == ""
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    results = supervisor.end(PATIENCE_SECONDS)

    assert len(set(running.values())) == 2
    # The supervisor, what its runs have as parents, and what looks at them.
    assert len(theirs) >= 4
    for result in results:
        assert result.stdout == "65532\n65532\n"
        assert "a uid of the run's own" in result.sandbox.mechanisms["privilege"]
        assert not [note for note in result.sandbox.notes if "share" in note.note]


@needs_them
def test_such_a_run_is_shown_the_host_and_nothing_of_the_supervisors(supervisor: Supervisor) -> None:
    policy = {"filesystem": {"hostView": ["processes", "disks", "network"]}}
    script = """
import glob, os
assert os.path.exists(f'/proc/{SUPERVISOR}/stat')
for name in ('environ', 'mem', 'maps', 'fd/0', 'root/etc', 'cwd/etc'):
    for path in glob.glob(f'/proc/{SUPERVISOR}/{name}'):
        try:
            open(path, 'rb').read(1)
            print('read', path)
        except OSError:
            pass
print('looked')
"""
    text = script.replace("{SUPERVISOR}", str(supervisor.pid))
    result = supervisor.run("python", text, policy=policy)
    held = "held = [bytearray(2**20) for _ in range(600)]; print('had it')"
    large = supervisor.run("python", held, policy={**policy, "resources": {"memoryBytes": 64 * 2**20}})
    assert (result.stdout, result.stderr) == ("looked\n", "")
    assert "had it" not in large.stdout


def _ours(supervisor: int) -> list[int]:
    """The processes under a supervisor that have its uid."""
    found, latest = [], [supervisor]
    while latest:
        listed = [
            Path(f"/proc/{pid}/task/{task}/children").read_text().split()
            for pid in latest
            for task in os.listdir(f"/proc/{pid}/task")
        ]
        latest = [int(child) for each in listed for child in each]
        found += [pid for pid in latest if os.stat(f"/proc/{pid}").st_uid == reach.OTHER_UID]
    return found


@needs_them
@pytest.mark.slow
def test_a_run_that_takes_all_that_is_counted_per_user_is_noticed_by_no_other(
    subordinate: Subordinate,
) -> None:
    with subordinate.supervisor() as taking, subordinate.supervisor() as working:
        taking.begin([taking.order("python", HOARD, policy=ROOM, timeout_ms=300_000)])
        wait_until(has_hoarded, "a run to take what it can")
        results = working.run_all([working.order("python", ORDINARY, policy=ROOM) for _ in range(2)])
        still = has_hoarded()
        for pid in owners():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        taking.end(PATIENCE_SECONDS)

    assert still
    assert [(result.value, result.stderr) for result in results] == [({}, "")] * 2


RESISTING = """
trap '' TERM INT HUP
for _ in 1 2 3 4 5 6; do (trap '' TERM; setsid sh -c 'trap "" TERM; while :; do :; done' & while :; do :; done) & done
while :; do :; done
"""


@needs_them
def test_such_a_run_finds_what_an_earlier_one_of_another_uid_has_kept(supervisor: Supervisor) -> None:
    script = """
n=$(cat "$RINGFENCE_STATE_DIR/n" 2>/dev/null || echo 0)
echo $((n + 1)) | tee "$RINGFENCE_STATE_DIR/n"
mkfifo "$RINGFENCE_STATE_DIR/pipe"; chmod 0 "$RINGFENCE_STATE_DIR/n" "$RINGFENCE_STATE_DIR"
"""
    first = supervisor.run("shell", script, state=b"")
    second = supervisor.run(
        "shell", f"chmod 600 $RINGFENCE_STATE_DIR/n; {script}", state=supervisor.states[0]
    )
    assert (first.stdout, second.stdout, second.stderr) == ("1\n", "2\n", "")
    assert any("'pipe' (a named pipe)" in note.note for note in first.sandbox.notes)


@needs_them
def test_a_run_that_resists_is_ended_with_all_that_it_has_started(supervisor: Supervisor) -> None:
    result = supervisor.run("shell", RESISTING, timeout_ms=1500)
    assert result.stopped == "timeout"
    wait_until(gone, "all of the run to be gone")
    # Its uids can be used again, and another run works.
    assert supervisor.run("shell", "echo ran").stdout == "ran\n"


@needs_them
def test_a_killed_supervisor_leaves_nothing_of_its_runs(subordinate: Subordinate) -> None:
    with subordinate.supervisor() as supervisor:
        supervisor.begin([supervisor.order("shell", "setsid sleep 1001.6 & exec sleep 1001.6")])
        wait_until(lambda: len(sleepers("1001.6")) == 2, "the run")
        ours = _ours(supervisor.pid)
        os.kill(supervisor.pid, signal.SIGKILL)
        wait_until(gone, "all of the run to be gone")
        wait_until(
            lambda: not [pid for pid in ours if Path(f"/proc/{pid}").exists()], "what served it to be gone"
        )


def opened(pid: int) -> list[str]:
    """What a process has open."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(descriptor))
    return found


IN_NOTHING = """
import os, time
def main(_):
    kept = [os.pipe() for _ in range(1500)]
    time.sleep(0.5)
    return "done"
"""

IN_SOCKETS = """
import socket, time
def main(_):
    kept = []
    for _ in range(4000):
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        near.setblocking(False)
        kept += [near, far]
        try:
            while True:
                near.send(bytes(32 * 1024))
        except BlockingIOError:
            pass
    time.sleep(50)
"""


@needs_them
@pytest.mark.parametrize(
    "script", [IN_SOCKETS, "def main(_):\n  x = bytearray(b'x') * 2**29\n  import time; time.sleep(50)"]
)
def test_what_a_run_takes_is_seen_though_its_uid_is_anothers(supervisor: Supervisor, script: str) -> None:
    policy = {"resources": {"memoryBytes": 128 * 1024**2, "maxOpenFiles": 10_000}}
    small = supervisor.run("python", IN_NOTHING, policy=policy)
    large = supervisor.run("python", script, policy=policy, timeout_ms=40_000)

    # Pipes that could not be looked into would count as full.
    assert small.value == "done", small.stopped
    assert large.stopped == "memory" or "MemoryError" in large.stderr


@needs_them
def test_a_run_that_cannot_be_looked_at_any_more_is_ended_and_the_next_one_is_looked_at(
    subordinate: Subordinate,
) -> None:
    with subordinate.supervisor() as supervisor:
        supervisor.begin([supervisor.order("shell", "exec sleep 1001.7", timeout_ms=30_000)])
        wait_until(lambda: sleepers("1001.7"), "the run")
        (looker,) = [
            pid for pid in _ours(supervisor.pid) if b"look_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        wait_until(lambda: "/proc" in opened(looker), "a look at the run")
        os.kill(looker, signal.SIGKILL)
        (result,) = supervisor.end(PATIENCE_SECONDS)
        again = supervisor.run("shell", "echo ran")

    assert result.stopped == "unwatched"
    assert again.stdout == "ran\n"


A_NODE_FOR_THE_SUPERVISOR = f"""
private=$(mktemp -d) && chmod 755 "$private"
cp "$(readlink -f "$(command -v node)")" "$private/node"
chown {reach.OTHER_UID} "$private/node" && chmod 0700 "$private/node"
mount --bind "$private/node" "$(readlink -f "$(command -v node)")"
rm -r "$private"
"""


@requires("root", "user namespaces", "mount namespaces", "subordinate ids", "node")
def test_what_only_the_supervisors_own_user_can_reach_is_not_lost(subordinate: Subordinate) -> None:
    with subordinate.supervisor(first=A_NODE_FOR_THE_SUPERVISOR) as supervisor:
        result = supervisor.run("esm", "export default 1")

    assert result.value == 1
    (note,) = [note.note for note in result.sandbox.notes if note.layer == "privilege"]
    assert "runs with uids of their own would lack node" in note


NO_TUN = """
mount -t tmpfs -o mode=755 tmpfs /dev/net
"""


@requires("root", "user namespaces", "mount namespaces", "subordinate ids")
def test_a_run_with_a_network_has_a_uid_of_its_own_and_needs_no_device(subordinate: Subordinate) -> None:
    with subordinate.supervisor(first=NO_TUN) as supervisor:
        linked = supervisor.run("shell", "id -u", policy={"network": {"allow": ["192.0.2.1:80"]}})

    assert linked.stdout == f"{reach.OTHER_UID}\n"
    assert linked.sandbox.enforced.network
    assert "subordinate uids" in linked.sandbox.mechanisms["privilege"]


REFUSING = '#!/bin/sh\necho "$(basename $0): not today" >&2\nexit 1\n'


@needs_them
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"subuid": ""}, "/etc/subuid has no range for subordinated or 65532"),
        ({"subuid": f"{reach.OTHER_UID}:{FIRST}:15\n"}, "no range of 16 ids or more"),
        ({"newuidmap": REFUSING}, "newuidmap: not today"),
        ({"newgidmap": REFUSING}, "newgidmap: not today"),
        ({"newgidmap": "#!/bin/sh\nexit 0\n"}, "newgidmap did not map the ids that it was given"),
    ],
    ids=["no range", "a small range", "no uids", "no gids", "nothing is mapped"],
)
def test_where_they_cannot_be_had_runs_share_the_supervisors_uid_and_the_report_says_why(
    subordinate: Subordinate, how: dict[str, str], why: str
) -> None:
    with subordinate.supervisor(**how) as supervisor:
        result = supervisor.run("shell", "id -u")

    assert result.stdout == f"{reach.OTHER_UID}\n"
    assert result.sandbox.mechanisms["privilege"] == "inherits uid 65532 of a supervisor that is not root"
    (note,) = [note.note for note in result.sandbox.notes if note.layer == "privilege"]
    assert note.startswith("runs share uid 65532 with their supervisor")
    assert why in note
