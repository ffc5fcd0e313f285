"""Runs where user namespaces are blocked: what Landlock covers, and that it is Landlock that does.

The supervisor is root in a container in which no user namespace can be made.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ringfence.scripts import RunResult

from tests import world_supervisor
from tests.primitives import requires
from tests.waiting import next_line, wait_until

real = requires("root", "user namespaces", "Landlock scopes")


class BlockedHost:
    """A supervisor where user namespaces are blocked; `sabotage` as in `world_supervisor`."""

    def __init__(self, sabotage: str = "") -> None:
        block = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
        self._process = subprocess.Popen(
            [
                *("unshare", "--user", "--", "sh", "-c", 'read -r _ && exec "$@"', "sh"),
                *(
                    "sh",
                    "-c",
                    block,
                    "sh",
                    sys.executable,
                    "-P",
                    world_supervisor.__file__,
                    *sabotage.split(),
                ),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        self._wait_for_the_namespace()
        for kind in ("uid", "gid"):
            Path(f"/proc/{self._process.pid}/{kind}_map").write_text("0 0 65536\n")
        self._tell("go")

    def _wait_for_the_namespace(self) -> None:
        own = os.readlink("/proc/self/ns/user")

        def has_its_own() -> bool:
            assert self._process.poll() is None
            return os.readlink(f"/proc/{self._process.pid}/ns/user") != own

        wait_until(has_its_own)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def run(
        self, kind: str, script: str, *, policy: dict[str, Any] | None = None, **request: Any
    ) -> RunResult:
        """Run a script, under `degrade` unless the policy says otherwise, and as a uid that others have too."""
        order = {
            "policy": {"onUnavailable": "degrade", "privilege": {"uid": 65532}, **(policy or {})},
            "request": {"kind": kind, "script": script, **request},
        }
        self._tell(json.dumps(order))
        return RunResult.model_validate_json(next_line(self._process.stdout, "the result"))

    def close(self) -> None:
        """End it."""
        self._process.communicate()


@pytest.fixture(scope="module")
def confined() -> Iterator[BlockedHost]:
    with contextlib.closing(BlockedHost()) as host:
        yield host


@pytest.fixture(scope="module")
def unconfined() -> Iterator[BlockedHost]:
    """The same host, with Landlock and the filters taken away."""
    with contextlib.closing(BlockedHost("confinement")) as host:
        yield host


@real
def test_it_is_seen_that_namespaces_are_blocked_and_the_report_says_what_holds(confined: BlockedHost) -> None:
    result = confined.run("shell", "id -u; echo ran")

    assert result.stdout == "65532\nran\n", result.stderr
    assert result.sandbox.enforced.model_dump() == {
        "resources": False,
        "filesystem": True,
        "network": True,
        "privilege": True,
        "syscalls": True,
    }
    (downgrade,) = result.sandbox.downgrades
    assert downgrade.layer == "resources"
    assert "user.max_user_namespaces is 0" in downgrade.reason
    assert confined.run("shell", "echo ran", policy={"onUnavailable": "fail"}).refused


FILES = """
import ctypes, os, shutil
def attempt(what):
    try:
        what()
        return "done"
    except OSError as error:
        return type(error).__name__
def main(place):
    secret, bait, program = f"{place}/secret", f"{place}/bait", f"{place}/program"
    os.symlink(secret, "link")
    truncate = ctypes.CDLL(None, use_errno=True).truncate
    def emptied():
        if truncate(bait.encode(), 0):
            raise PermissionError
    return {
        "read": attempt(lambda: open(secret).read()),
        "read by a link": attempt(lambda: open("link").read()),
        "read /etc/passwd": attempt(lambda: open("/etc/passwd").read()),
        "list": attempt(lambda: os.listdir(place)),
        "list /": attempt(lambda: os.listdir("/")),
        "list /proc": attempt(lambda: os.listdir("/proc")),
        "execute": attempt(lambda: os.spawnv(os.P_WAIT, program, ["x"]) and (_ for _ in ()).throw(PermissionError)),
        "write": attempt(lambda: open(bait, "a").write("x")),
        "truncate": attempt(emptied),
        "make": attempt(lambda: open(f"{place}/made", "w").close()),
        "make a directory": attempt(lambda: os.mkdir(f"{place}/directory")),
        "make a link": attempt(lambda: os.symlink("/", f"{place}/symlink")),
        "rename": attempt(lambda: os.rename(f"{place}/goes", f"{place}/went")),
        "remove": attempt(lambda: os.unlink(f"{place}/gone")),
        "take in": attempt(lambda: os.rename(f"{place}/taken", "taken")),
    }
"""

SCRATCH = """
import os, shutil, subprocess
def main(context):
    os.makedirs("a/b")
    open("a/f", "w").write("text")
    os.rename("a/f", "a/b/g")
    os.truncate("a/b/g", 2)
    os.symlink("g", "a/b/s")
    os.mkfifo("pipe")
    shutil.copy("/usr/bin/true", "program")
    subprocess.run(["./program"], check=True)
    subprocess.run("echo x | grep -q x >/dev/null", shell=True, check=True)
    shutil.rmtree("a")
    return sorted(os.listdir())
"""


@pytest.fixture
def open_place(open_directory: Path) -> Path:
    """A directory that ordinary permissions open to everybody, with all in it."""
    place = open_directory
    for name in ("secret", "bait", "goes", "gone", "taken"):
        (place / name).write_text("text")
        (place / name).chmod(0o666)
        os.chown(place / name, 65532, 65532)
    (place / "program").write_bytes(Path("/usr/bin/true").read_bytes())
    (place / "program").chmod(0o755)
    place.chmod(0o777)
    return place


@real
def test_nothing_outside_of_scratch_and_the_system_can_be_opened_or_changed(
    confined: BlockedHost, unconfined: BlockedHost, open_place: Path
) -> None:
    kept = confined.run("python", FILES, context=str(open_place))
    assert isinstance(kept.value, dict), kept.stderr
    assert {name: outcome for name, outcome in kept.value.items() if outcome == "done"} == {}
    assert (open_place / "bait").read_text() == "text"

    # And each of these is Landlock's doing: without it, ordinary permissions let all of it happen.
    free = unconfined.run("python", FILES, context=str(open_place))
    assert isinstance(free.value, dict), free.stderr
    across_filesystems = {"take in"} if os.stat(open_place).st_dev != os.stat("/tmp").st_dev else set()
    assert {name for name, outcome in free.value.items() if outcome != "done"} <= across_filesystems


@real
def test_in_scratch_everything_can_be_done(confined: BlockedHost) -> None:
    result = confined.run("python", SCRATCH)

    assert result.value == ["pipe", "program"], result.stderr


@real
def test_a_writer_ends_when_nobody_reads(confined: BlockedHost) -> None:
    result = confined.run("shell", "yes | head -n 1; echo $?")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "y\n0\n", "")


@real
def test_other_processes_cannot_be_signalled_or_looked_into(
    confined: BlockedHost, unconfined: BlockedHost
) -> None:
    script = """
import os
def attempt(what):
    try:
        what()
        return "done"
    except OSError as error:
        return type(error).__name__
def main(pid):
    return [
        attempt(lambda: os.kill(pid, 0)),
        attempt(lambda: open(f"/proc/{pid}/environ").read()),
        attempt(lambda: os.listdir(f"/proc/{pid}/fd")),
    ]
"""
    with subprocess.Popen(["sleep", "60"], user=65532, group=65532, extra_groups=[]) as victim:
        try:
            kept = confined.run("python", script, context=victim.pid).value
            free = unconfined.run("python", script, context=victim.pid).value
        finally:
            victim.kill()

    assert kept == ["PermissionError"] * 3
    assert free[0] == "done"


SOCKETS = """
import socket
def attempt(family, kind, address):
    try:
        with socket.socket(family, kind) as end:
            end.settimeout(3)
            end.connect(address)
            if kind == socket.SOCK_DGRAM:
                end.send(b"?")
            return end.recv(100).decode()
    except OSError as error:
        return type(error).__name__
def bound():
    try:
        with socket.create_server(("127.0.0.1", 0)):
            return "bound"
    except OSError as error:
        return type(error).__name__
def main(host):
    one, two = socket.socketpair()
    one.send(b"x")
    assert two.recv(1) == b"x"
    return {
        "tcp": attempt(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", host["tcp"])),
        "other tcp": attempt(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", host["other"])),
        "udp": attempt(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", host["udp"])),
        "abstract": attempt(socket.AF_UNIX, socket.SOCK_STREAM, "\\0" + host["abstract"]),
        "bind": bound(),
    }
"""


@pytest.fixture
def hosts() -> Iterator[dict[str, Any]]:
    """Services on this machine's loopback that answer "reached"."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"reached")
        await writer.drain()
        writer.close()

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(b"reached", addr)

    async def serve() -> dict[str, Any]:
        servers = [await asyncio.start_server(answer, "127.0.0.1", 0) for _ in range(2)]
        abstract = socket.socket(socket.AF_UNIX)
        name = f"ringfence-landlock-{os.getpid()}"
        abstract.bind("\0" + name)
        servers.append(await asyncio.start_unix_server(answer, sock=abstract))
        udp, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
        closing.extend([*servers, udp])
        tcp, other = (server.sockets[0].getsockname()[1] for server in servers[:2])
        return {"tcp": tcp, "other": other, "udp": udp.get_extra_info("sockname")[1], "abstract": name}

    closing: list[Any] = []
    try:
        yield asyncio.run_coroutine_threadsafe(serve(), loop).result(10)
    finally:
        for each in closing:
            loop.call_soon_threadsafe(each.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@real
def test_without_a_network_no_socket_of_any_kind_reaches_anything(
    confined: BlockedHost, unconfined: BlockedHost, hosts: dict[str, Any]
) -> None:
    kept = confined.run("python", SOCKETS, context=hosts)
    free = unconfined.run("python", SOCKETS, context=hosts)

    assert kept.value == dict.fromkeys(("tcp", "other tcp", "udp", "abstract", "bind"), "PermissionError")
    assert free.value == {
        **dict.fromkeys(("tcp", "other tcp", "udp", "abstract"), "reached"),
        "bind": "bound",
    }


@real
def test_no_datagram_reaches_a_socket_that_the_host_has_in_its_file_system(
    confined: BlockedHost, unconfined: BlockedHost, open_directory: Path
) -> None:
    """As `/dev/log` and the service manager's are: a pair of datagram sockets can send to them too."""
    script = """
import socket
def attempt(what):
    try:
        what()
        return "sent"
    except OSError as error:
        return type(error).__name__
def to(path, kind, connect):
    one, two = socket.socketpair(socket.AF_UNIX, kind)
    if connect:
        one.connect(path)
        one.send(b"forged")
    else:
        one.sendto(b"forged", path)
def main(path):
    kinds = (socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
    return [attempt(lambda: to(path, kind, connect)) for kind in kinds for connect in (False, True)]
"""
    path = open_directory / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(path))
        log.setblocking(False)
        path.chmod(0o777)

        kept = confined.run("python", script, context=str(path))
        with pytest.raises(BlockingIOError):
            log.recv(100)
        free = unconfined.run("python", script, context=str(path))

        assert kept.sandbox.enforced.network
        assert isinstance(kept.value, list), kept.stderr
        # (On a pair whose messages are in order, an address is ignored, and its own other end gets it.)
        assert kept.value[:4] == ["PermissionError"] * 4
        assert free.value[:4] == ["sent"] * 4
        assert log.recv(100) == b"forged"


@real
def test_no_other_process_of_the_same_uid_is_limited_slowed_or_moved(
    confined: BlockedHost, unconfined: BlockedHost
) -> None:
    """A limit of one second of processor time kills as a signal does, which is kept from it."""
    script = """
import os, resource
def attempt(what):
    try:
        what()
        return "done"
    except OSError as error:
        return type(error).__name__
def changes(pid):
    return [
        attempt(lambda: resource.prlimit(pid, resource.RLIMIT_CPU, (50, 50))),
        attempt(lambda: os.sched_setaffinity(pid, os.sched_getaffinity(pid))),
        attempt(lambda: os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))),
        attempt(lambda: os.setpriority(os.PRIO_PROCESS, pid, 19)),
    ]
def main(pid):
    return [changes(pid), changes(0)]
"""
    with subprocess.Popen(["sleep", "60"], user=65532, group=65532, extra_groups=[]) as victim:
        try:
            before = os.getpriority(os.PRIO_PROCESS, victim.pid)
            kept = confined.run("python", script, context=victim.pid)
            untouched = os.getpriority(os.PRIO_PROCESS, victim.pid) == before
            free = unconfined.run("python", script, context=victim.pid)
        finally:
            victim.kill()

    # A script may take less for itself, but how it is scheduled is not its own to say.
    own = ["done", "done", "PermissionError", "done"]
    assert kept.value == [["PermissionError"] * 4, own], kept.stderr
    assert untouched
    assert free.value == [["done"] * 4, ["done"] * 4], free.stderr


@real
def test_what_others_do_in_a_directory_cannot_be_watched_and_no_queue_outlives_the_run(
    confined: BlockedHost, unconfined: BlockedHost, open_place: Path
) -> None:
    script = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
librt = ctypes.CDLL("librt.so.1", use_errno=True)
def main(place):
    watch = libc.inotify_add_watch(libc.inotify_init(), place.encode(), 0x100)
    name = f"/ringfence-{os.getpid()}".encode()
    queue = librt.mq_open(name, os.O_RDWR | os.O_CREAT, 0o600, None)
    librt.mq_unlink(name)
    return [watch >= 0, queue >= 0]
"""
    assert confined.run("python", script, context=str(open_place)).value == [False, False]
    assert unconfined.run("python", script, context=str(open_place)).value == [True, True]


@real
def test_objects_of_the_host_that_have_no_file_are_neither_seen_nor_changed(
    confined: BlockedHost, unconfined: BlockedHost
) -> None:
    """A message queue and a semaphore that anybody may use; `MSG_STAT` needs no permission but to read."""
    script = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def outcome(result):
    return errno.errorcode[ctypes.get_errno()] if result < 0 else "done"
def main(objects):
    buffer = ctypes.create_string_buffer(4096)
    return [
        outcome(libc.msgctl(0, 11, buffer)),  # MSG_STAT: the first of the host, whoever's it is
        outcome(libc.semctl(objects["semaphore"], 0, 16, 7)),  # SETVAL
        outcome(libc.msgsnd(objects["queue"], ctypes.byref(ctypes.c_long(1)), 0, 0o4000)),
    ]
"""
    libc = ctypes.CDLL(None, use_errno=True)
    queue, semaphore = libc.msgget(0, 0o666), libc.semget(0, 1, 0o666)
    try:
        objects = {"queue": queue, "semaphore": semaphore}
        kept = confined.run("python", script, context=objects)
        free = unconfined.run("python", script, context=objects)
    finally:
        libc.msgctl(queue, 0, None)
        libc.semctl(semaphore, 0, 0)

    assert kept.value == ["EPERM"] * 3, kept.stderr
    assert free.value[1:] == ["done"] * 2, free.stderr


@real
def test_with_a_network_neither_a_server_nor_a_socket_of_the_host_nor_another_port_is_to_be_had(
    confined: BlockedHost, unconfined: BlockedHost, hosts: dict[str, Any], open_directory: Path
) -> None:
    script = """
import socket
def attempt(what):
    try:
        what()
        return "done"
    except OSError as error:
        return type(error).__name__
def listen():
    with socket.socket() as end:
        end.listen()  # without a bind, so that the kernel chooses the port
def to_the_host(path, kind):
    with socket.socket(socket.AF_UNIX, kind) as end:
        end.connect(path)
def first_message(port):
    with socket.socket() as end:
        end.sendto(b"?", socket.MSG_FASTOPEN, ("127.0.0.1", port))
def fast_connect(port):
    with socket.socket() as end:
        end.setsockopt(socket.IPPROTO_TCP, 30, 1)  # TCP_FASTOPEN_CONNECT
        end.connect(("127.0.0.1", port))
def main(host):
    return [
        attempt(listen),
        attempt(lambda: to_the_host(host["stream"], socket.SOCK_STREAM)),
        attempt(lambda: to_the_host(host["datagrams"], socket.SOCK_DGRAM)),
        attempt(lambda: first_message(host["other"])),
        attempt(lambda: fast_connect(host["other"])),
    ]
"""
    policy = {"network": {"allow": [f"127.0.0.1:{hosts['tcp']}"]}}
    paths = {"stream": str(open_directory / "stream"), "datagrams": str(open_directory / "datagrams")}
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
    ):
        for end, path in ((stream, paths["stream"]), (datagrams, paths["datagrams"])):
            end.bind(path)
            Path(path).chmod(0o777)
        stream.listen()
        kept = confined.run("python", script, policy=policy, context=hosts | paths)
        free = unconfined.run("python", script, policy=policy, context=hosts | paths)

    refused = ["PermissionError"] * 3 + ["OSError"] * 2
    assert kept.value == refused, kept.stderr
    assert free.value == ["done"] * 5, free.stderr


@real
def test_no_file_of_the_host_is_locked_as_a_whole(confined: BlockedHost, unconfined: BlockedHost) -> None:
    script = """
import fcntl
def main(path):
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            return "locked"
        except OSError as error:
            return error.strerror
"""
    path = "/usr/bin/env"
    assert confined.run("python", script, context=path).value == "Operation not supported"
    assert unconfined.run("python", script, context=path).value == "locked"


@real
def test_an_allowlists_ports_hold_for_tcp_and_the_report_says_that_udp_is_open(
    confined: BlockedHost, hosts: dict[str, Any]
) -> None:
    policy = {"network": {"allow": [f"127.0.0.1:{hosts['tcp']}"]}}

    result = confined.run("python", SOCKETS, policy=policy, context=hosts)

    assert result.value == {
        "tcp": "reached",
        "other tcp": "PermissionError",
        "udp": "reached",
        "abstract": "PermissionError",
        "bind": "PermissionError",
    }
    assert not result.sandbox.enforced.network
    (said,) = [each.reason for each in result.sandbox.downgrades if each.layer == "network"]
    assert "UDP is not restricted" in said


@real
def test_the_syscall_filter_is_on(confined: BlockedHost) -> None:
    script = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def main(context):
    return [libc.unshare(0x10000000), ctypes.get_errno(), libc.prctl(39, 0, 0, 0, 0), libc.prctl(21, 0, 0, 0, 0)]
"""
    assert confined.run("python", script).value == [-1, 1, 1, 2]  # EPERM, no_new_privs, filtered


@real
def test_no_descriptor_of_the_confinement_is_left(confined: BlockedHost) -> None:
    script = "import os\ndef main(context):\n    return [n for n in range(64) if _is_open(n)]\n"
    helper = "def _is_open(n):\n    try:\n        return bool(os.fstat(n))\n    except OSError:\n        return False\n"

    assert confined.run("python", helper + script).value == [0, 1, 2, 4]  # 4 is the value's channel


@real
def test_a_confinement_that_cannot_be_made_lets_no_script_run() -> None:
    with contextlib.closing(BlockedHost("orders")) as host:
        result = host.run("shell", "echo ran")

    assert result.refused
    assert result.stdout == ""
    assert "the script cannot be confined" in result.sandbox.downgrades[-1].reason
