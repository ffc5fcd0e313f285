"""The process that starts children: what happens to one request is that request's alone."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.leases import Lease, Register, is_alive
from ringfence.sandbox.identities.uids import UidRange
from ringfence.sandbox.processes.spawner import PROGRAM, Child, Ended, Spawner, SpawnFailed, Started, receive

from tests.primitives import requires
from tests.waiting import wait_until

FIRST = 2_000_200_000 + 200 * (os.getpid() % 4096)
RANGE = UidRange(FIRST, FIRST + 100)
"""This process's own: what the kernel counts for a uid, others' tests of the same time would count too."""
OURS = Identity(os.geteuid(), os.getegid())

LIMITED = """#!/usr/bin/python3
import resource, runpy, sys
for name, value in {limits}.items():
    resource.setrlimit(getattr(resource, name), (value, value))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def limited(place: Path, **limits: int) -> Path:
    """A script through which a spawner starts with limits so small that they are soon reached."""
    script = place / "limited.py"
    script.write_text(LIMITED.format(limits=limits))
    return script


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    """One of plain children with our own identity."""
    with contextlib.closing(Spawner(OURS, plain=True)) as one:
        yield one


@pytest.fixture(params=[True, False], ids=["plain", "contained"])
def either(request: pytest.FixtureRequest) -> Iterator[Spawner]:
    """One with our own identity, of plain children, or of some that are in a namespace."""
    with contextlib.closing(Spawner(OURS, plain=request.param)) as one:
        yield one


def start(spawner: Spawner, *argv: str, descriptors: dict[int, int] | None = None, **how: Any) -> Child:
    """Start a program."""
    program = os.open(argv[0], os.O_RDONLY | os.O_CLOEXEC)
    try:
        return spawner.spawn(program, argv, {}, descriptors or {}, **how)
    finally:
        os.close(program)


def answer(child: Child) -> Started | Ended:
    """The next reply about a child."""
    assert select.select([child.answers], [], [], 10)[0], "no answer"
    return receive(child.answers)


def outcome(child: Child) -> int | str:
    """How a child ends: its exit code, or why it could not be started."""
    with contextlib.closing(child.answers):
        try:
            started = answer(child)
            assert isinstance(started, Started)
            os.close(started.pidfd)
            ended = answer(child)
        except SpawnFailed as error:
            return str(error)
        assert isinstance(ended, Ended)
        return ended.exit_code


def failure(number: int) -> str:
    """What is said of a request that failed so."""
    return f"the wrapper cannot be started: {os.strerror(number)}"


def raw(spawner: Spawner, request: bytes, *descriptors: int) -> Child:
    """Send what is not necessarily a request."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        socket.send_fds(spawner._requests, [request], [theirs.fileno(), *descriptors])
    ours.setblocking(False)
    return Child(ours)


def test_a_child_that_cannot_be_started_is_told_to_its_request_alone(either: Spawner, tmp_path: Path) -> None:
    spawner = either
    script = tmp_path / "no-program"
    script.write_text("neither binary nor script")
    (tmp_path / "not-executable").write_bytes(Path("/bin/true").read_bytes())
    script.chmod(0o755)

    assert outcome(start(spawner, str(script))) == failure(errno.ENOEXEC)
    assert outcome(start(spawner, str(tmp_path / "not-executable"))) == failure(errno.EACCES)
    assert outcome(start(spawner, "/bin/echo", "x" * 200_000)) == failure(errno.E2BIG)
    assert outcome(start(spawner, "/bin/echo", "\0")) == failure(errno.EIO)
    assert outcome(start(spawner, "/bin/true")) == 0


@pytest.mark.parametrize(
    "request_text",
    [
        b"{",
        b"[]",
        b"7",
        b"\xff\xff",
        b"[" * 100_000,
        b'{"argv": [], "env": {}, "fds": []}',
        b'{"argv": 7, "env": {}, "fds": []}',
        b'{"argv": ["x"], "env": {}}',
        b'{"argv": ["x"], "env": {}, "fds": ["a"]}',
        b'{"argv": ["x"], "env": {}, "fds": [-1]}',
        b'{"argv": ["x"], "env": {}, "fds": [5, 6, 7]}',
        b'{"argv": ["x"], "env": {}, "fds": [], "identity": [1]}',
        b'{"argv": ["x"], "env": {}, "fds": [], "identity": "root"}',
        b'{"argv": ["x"], "env": {}, "fds": [], "limits": {"RLIMIT_NONE": [1, 1]}}',
    ],
)
def test_what_is_no_request_is_answered_and_ends_nothing(either: Spawner, request_text: bytes) -> None:
    spawner = either
    program = os.open("/bin/true", os.O_RDONLY)
    before = spawner.pid
    with contextlib.closing(raw(spawner, request_text, program).answers) as answers:
        assert select.select([answers], [], [], 10)[0]
        with pytest.raises(SpawnFailed, match="cannot be started"):
            receive(answers)
    for descriptors in ((), (program,)):
        with contextlib.closing(
            raw(spawner, b'{"argv": [], "identity": [1, 1]}', *descriptors).answers
        ) as answers:
            assert select.select([answers], [], [], 10)[0]
            with pytest.raises(SpawnFailed):
                receive(answers)
    socket.send_fds(spawner._requests, [b"nobody to tell"], [])
    os.close(program)

    assert outcome(start(spawner, "/bin/true")) == 0
    assert (spawner.alive, spawner.pid) == (True, before)


def test_a_spawner_without_descriptors_left_serves_again_when_there_are_some(tmp_path: Path) -> None:
    with contextlib.closing(Spawner(OURS, limited(tmp_path, RLIMIT_NOFILE=40), plain=True)) as spawner:
        running: list[Child] = []
        failed = 0
        for number in range(60):
            child = start(spawner, "/bin/sleep", "1000", descriptors={3 + n: 0 for n in range(number % 30)})
            try:
                started = answer(child)
            except SpawnFailed:
                failed += 1
                child.answers.close()
                continue
            assert isinstance(started, Started)
            signal.pidfd_send_signal(started.pidfd, 0)
            running.append(child)
            os.close(started.pidfd)
        assert running
        assert failed > 10
        # Whatever number of descriptors it has left, from many to none.
        for child in running:
            child.answers.close()
        for pid in children_of(spawner.pid):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: outcome(start(spawner, "/bin/true")) == 0, "a spawner to notice what ended")


LATCH = 10

WAITING = """
import json, os
assert os.read(10, 1) == b""
os.close(10)
status = dict(line.strip("\\n").split(":\\t", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "scheduler": os.sched_getscheduler(0),
    "oom": int(open("/proc/self/oom_score_adj").read()),
    "ids": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
    "capabilities": [status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Amb")],
    "leader": os.getsid(0) == os.getpid(),
    # Python itself, and the two that the C library keeps for itself.
    "ignored": [n for n in range(1, 65) if n not in (13, 25, 32, 33) and int(status["SigIgn"], 16) >> n - 1 & 1],
    "open": [number for number in range(256) if os.path.exists(f"/proc/self/fd/{number}")],
}))
"""


def waiting(spawner: Spawner, **how: Any) -> dict[str, Any]:
    """What a program finds of itself that waits at a latch first."""
    reading, writing = os.pipe()
    with open(reading, "rb") as said:
        numbers = {0: os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 1: writing, 2: 2, 7: writing}
        child = start(spawner, "/usr/bin/python3", "-Ic", WAITING, descriptors=numbers, latch=LATCH, **how)
        for number in (numbers[0], writing):
            os.close(number)
        assert outcome(child) == 0
        found: dict[str, Any] = json.loads(said.read())
    return found


NO_SESSIONS = """#!/usr/bin/python3
import os, runpy, sys
spawn = os.posix_spawn
def without_sessions(*arguments, setsid=False, **options):
    if setsid:
        raise NotImplementedError("posix_spawn: setsid unavailable on this platform")
    return spawn(*arguments, **options)
os.posix_spawn = without_sessions
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""A Python that was built for an old C library."""


@pytest.fixture(params=["latched", "copied"])
def through(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """What a spawner starts through: whose Python can start a program that waits, or cannot."""
    if request.param == "latched":
        return None
    script = tmp_path / "no-sessions.py"
    script.write_text(NO_SESSIONS)
    return script


FOUND = {
    "nice": 19,
    "scheduler": os.SCHED_BATCH,
    "oom": 1000,
    "capabilities": ["0" * 16] * 4,
    "leader": True,
    "ignored": [],
    "open": [0, 1, 2, 7],
}


@requires("root")
def test_a_program_that_waits_is_let_go_as_what_it_is_to_be(lease: Lease, through: Path | None) -> None:
    uid = lease.identity.uid
    with contextlib.closing(Spawner(RANGE.spawner, through, leaving=True)) as spawner:
        for _ in range(3):
            assert waiting(spawner, lease=lease) == {**FOUND, "ids": [uid] * 6}


def test_a_program_that_waits_is_let_go_with_the_lowest_claims_under_a_shared_identity_too(
    through: Path | None,
) -> None:
    with contextlib.closing(Spawner(OURS, through)) as spawner:
        for _ in range(3):
            found = waiting(spawner)
            assert {name: found[name] for name in ("nice", "scheduler", "oom", "leader", "ignored")} == {
                name: FOUND[name] for name in ("nice", "scheduler", "oom", "leader", "ignored")
            }


@requires("root")
def test_the_spawner_is_itself_again_when_it_was_a_child_for_a_moment(lease: Lease, tmp_path: Path) -> None:
    script = tmp_path / "no-program"
    script.write_text("neither binary nor script")
    script.chmod(0o755)
    with contextlib.closing(Spawner(RANGE.spawner, leaving=True)) as spawner:
        (init,) = children_of(spawner.pid)

        def itself() -> list[str]:
            status = Path(f"/proc/{init}/status").read_text().splitlines()
            return [line for line in status if line.startswith(("Uid", "Gid", "Groups", "Cap"))]

        before = itself()
        assert "Uid:\t" + "\t".join([str(RANGE.last)] * 4) in before
        assert outcome(start(spawner, "/bin/cat", lease=lease, latch=LATCH)) == 0
        assert itself() == before
        assert outcome(start(spawner, str(script), lease=lease, latch=LATCH)) == failure(errno.ENOEXEC)
        assert itself() == before
        program = os.open("/bin/true", os.O_RDONLY)
        for identity in ([0, 0], [lease.identity.uid, 0], [lease.identity.uid, "x"], [-5, -5], [-1, -1]):
            request = {"argv": ["true"], "env": {}, "fds": [], "latch": LATCH, "identity": identity}
            answered = outcome(raw(spawner, json.dumps(request).encode(), program, lease.lock))
            assert str(answered).startswith("the wrapper cannot be started")
        os.close(program)
        assert itself() == before
        assert Path(f"/proc/{init}/environ").stat().st_uid == RANGE.last


@requires("root")
def test_a_spawner_that_was_a_child_for_a_moment_still_ends_with_its_parent(lease: Lease) -> None:
    with contextlib.closing(Spawner(RANGE.spawner, leaving=True)) as spawner:
        child = start(spawner, "/bin/sleep", "1000", lease=lease, latch=LATCH)
        with contextlib.closing(child.answers):
            started = answer(child)
            assert isinstance(started, Started)
            os.kill(spawner.pid, signal.SIGKILL)
            assert select.select([started.pidfd], [], [], 10)[0], "it outlives who started its spawner"
            os.close(started.pidfd)


@requires("root")
def test_a_program_that_waits_and_cannot_be_started_is_told_to_its_request_alone(
    lease: Lease, tmp_path: Path
) -> None:
    through = limited(tmp_path, RLIMIT_NPROC=2)
    with contextlib.closing(Spawner(RANGE.spawner, through, leaving=True)) as spawner:
        with subprocess.Popen(["sleep", "1000"], user=lease.identity.uid, extra_groups=[]) as one:
            try:
                told = outcome(start(spawner, "/bin/cat", lease=lease, latch=LATCH))
                assert told == failure(errno.EAGAIN)
            finally:
                one.kill()
        wait_until(
            lambda: outcome(start(spawner, "/bin/cat", lease=lease, latch=LATCH)) == 0, "room for a process"
        )


def children_of(pid: int) -> list[int]:
    """The children of a process."""
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@pytest.fixture
def register(tmp_path: Path) -> Register:
    """Uids that nobody else on this machine gives out."""
    place = tmp_path / "uids"
    place.mkdir()
    return Register(RANGE, place, lambda _: True)


@pytest.fixture
def lease(register: Register) -> Iterator[Lease]:
    """A uid of those."""
    with contextlib.closing(register.lease(reaching=False)) as one:
        yield one


@requires("root")
def test_a_spawner_that_may_not_fork_serves_again_when_it_may(tmp_path: Path, lease: Lease) -> None:
    through = limited(tmp_path, RLIMIT_NPROC=2)
    wait_until(lambda: not is_alive(RANGE.last), "the spawners of other tests to be gone")
    with contextlib.closing(Spawner(RANGE.spawner, through, plain=True, leaving=True)) as spawner:
        # As many processes of the spawner's own uid as it may have.
        with subprocess.Popen(["sleep", "1000"], user=RANGE.last, extra_groups=[]) as one:
            try:
                assert outcome(start(spawner, "/bin/true", lease=lease)) == failure(errno.EAGAIN)
            finally:
                one.kill()
        assert outcome(start(spawner, "/bin/true", lease=lease)) == 0


def test_a_spawner_needs_nothing_that_is_counted_for_a_user_and_can_be_used_up(spawner: Spawner) -> None:
    assert outcome(start(spawner, "/bin/true")) == 0
    held = [os.readlink(path) for path in Path(f"/proc/{spawner.pid}/fd").iterdir()]
    assert held
    assert not [kind for kind in held if "eventpoll" in kind or "inotify" in kind or "signalfd" in kind]


IN_FLIGHT = """
import os, socket, time
ends = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(200)]
try:
    for near, _ in ends:
        for _ in range(5):
            socket.send_fds(near, [b"x"], [0] * 250)
except OSError as error:
    print(error.errno, flush=True)
    time.sleep(1000)
"""


@requires("root")
def test_a_reply_that_cannot_be_sent_for_now_costs_that_child_alone(tmp_path: Path, lease: Lease) -> None:
    through = limited(tmp_path, RLIMIT_NOFILE=600)
    with contextlib.closing(Spawner(RANGE.spawner, through, plain=True, leaving=True)) as spawner:
        with subprocess.Popen(
            ["/usr/bin/python3", "-c", IN_FLIGHT],
            user=RANGE.last,
            extra_groups=[],
            stdout=subprocess.PIPE,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000)),
        ) as hoarder:
            try:
                assert hoarder.stdout is not None
                assert int(hoarder.stdout.readline()) == errno.ETOOMANYREFS
                assert outcome(start(spawner, "/bin/sleep", "1000", lease=lease)) == failure(
                    errno.ETOOMANYREFS
                )
                wait_until(lambda: not children_of(spawner.pid), "what could not be told to be killed")
            finally:
                hoarder.kill()
        # The kernel collects descriptors under way in its own time.
        wait_until(lambda: outcome(start(spawner, "/bin/true", lease=lease)) == 0, "replies to be sent again")


@requires("root")
def test_a_child_leaves_for_its_own_uid_with_no_capability_and_no_group(lease: Lease) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as said, contextlib.closing(Spawner(RANGE.spawner, leaving=True)) as spawner:
        child = start(
            spawner,
            "/bin/grep",
            "-E",
            "^(Uid|Gid|Groups|Cap(Inh|Prm|Eff|Amb))",
            "/proc/self/status",
            descriptors={1: writing},
            lease=lease,
        )
        os.close(writing)
        assert outcome(child) == 0
        found = dict(line.split(":") for line in said.read().decode().splitlines())
    uid = str(lease.identity.uid)
    assert found["Uid"].split() == found["Gid"].split() == [uid] * 4
    assert found["Groups"].split() == []
    assert {found[f"Cap{kind}"].strip() for kind in ("Inh", "Prm", "Eff", "Amb")} == {"0" * 16}


@requires("root")
def test_the_spawner_itself_has_little_of_root_and_no_run_can_signal_it(lease: Lease) -> None:
    with contextlib.closing(Spawner(RANGE.spawner, plain=True, leaving=True)) as spawner:
        status = Path(f"/proc/{spawner.pid}/status").read_text()
        found = dict(line.split(":\t", 1) for line in status.splitlines())
        assert found["Uid"].split() == [str(RANGE.last)] * 4
        assert int(found["CapPrm"], 16) & ~(1 << 5 | 1 << 6 | 1 << 7 | 1 << 23) == 0
        attack = f"kill -9 {spawner.pid}; kill -STOP {spawner.pid}; cat /proc/{spawner.pid}/environ && exit 7"
        script = f"{attack}; exit 3"
        assert outcome(start(spawner, "/bin/sh", "-c", script, lease=lease)) == 3
        assert spawner.alive
        assert outcome(start(spawner, "/bin/true", lease=lease)) == 0


@requires("root")
def test_a_request_without_its_lock_is_refused() -> None:
    with contextlib.closing(Spawner(RANGE.spawner, plain=True, leaving=True)) as spawner:
        program = os.open("/bin/true", os.O_RDONLY)
        request = json.dumps({"argv": ["true"], "env": {}, "fds": [], "identity": [RANGE.first] * 2})
        assert outcome(raw(spawner, request.encode(), program)) == failure(errno.EMFILE)
        os.close(program)


LITTER = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
place = sys.argv[1]
os.makedirs(f"{place}/open/mine/deep")
os.chmod(f"{place}/open", 0o777)
open(f"{place}/open/mine/file", "w").write("secret")
os.chmod(f"{place}/open/mine", 0)
os.mkfifo(f"{place}/fifo")
os.symlink("/etc/passwd", f"{place}/link")
os.link(f"{place}/fifo", f"{place}/again")
here = os.getcwd()
os.chdir(place)
for _ in range(1500):
    os.mkdir("deeper")
    os.chdir("deeper")
found = [libc.shmget(0, 4096, 0o1600), libc.semget(0, 1, 0o1600), libc.msgget(0, 0o1600)]
if os.fork() == 0:
    os.setsid()
    os.closerange(0, 20)
    while True:
        pass
print(*found)
"""


def objects(uid: int) -> list[str]:
    """The kinds of the System V objects of a uid, one for each."""
    found = []
    for kind in ("shm", "sem", "msg"):
        names, *rows = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()
        place, number = names.split().index("uid"), 1
        # A set: where others come and go meanwhile, the kernel may list one twice.
        found += [kind for _ in {row.split()[number] for row in rows if row.split()[place] == str(uid)}]
    return found


@requires("root")
def test_what_a_uid_has_left_is_removed_and_nothing_of_anybody_elses(lease: Lease, place: Path) -> None:
    uid = lease.identity.uid
    (place / "another's").write_text("kept")
    (place / "a directory").mkdir()
    (place / "a directory" / "kept").touch()
    subprocess.run(
        ["/usr/bin/python3", "-c", LITTER, str(place)],
        user=uid,
        group=uid,
        extra_groups=[],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    assert is_alive(uid)
    assert objects(uid) == ["shm", "sem", "msg"]

    with contextlib.closing(Spawner(RANGE.spawner, plain=True, leaving=True)) as spawner:
        assert spawner.clean(lease)

    assert objects(uid) == []
    wait_until(lambda: not is_alive(uid), "its processes to be reaped")
    assert sorted(path.name for path in place.iterdir()) == ["a directory", "another's"]
    assert (place / "a directory" / "kept").exists()


@requires("root")
def test_what_cannot_be_removed_is_told(lease: Lease, place: Path) -> None:
    mine = place / "mine"
    mine.mkdir()
    (mine / "another's").touch()
    os.chown(mine, *lease.identity)
    (mine / "another's").chmod(0o600)
    (mine / "directory").mkdir(mode=0o755)
    (mine / "directory" / "kept").touch()

    with contextlib.closing(Spawner(RANGE.spawner, plain=True, leaving=True)) as spawner:
        assert not spawner.clean(lease)

    assert (mine / "directory" / "kept").exists()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody can make files in, where runs may leave something."""
    path = Path(tempfile.mkdtemp(prefix="ringfence-test-", dir="/var/tmp"))
    path.chmod(0o1777)
    try:
        yield path
    finally:
        subprocess.run(["rm", "-rf", str(path)], check=True)


@pytest.mark.parametrize("how", [(), ("plain",)])
def test_a_spawner_whose_host_was_killed_while_it_started_ends_without_a_word(how: tuple[str, ...]) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    uid = 65532 if os.geteuid() == 0 else os.geteuid()
    command = [sys.executable, "-I", "-S", str(PROGRAM), str(uid), str(uid), *how]
    with theirs:
        ended = subprocess.run(
            command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
    assert (ended.returncode, ended.stderr) == (0, b"")
