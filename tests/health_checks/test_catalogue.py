"""The ready checks: each in a real sandbox, and those that reach something at real servers of this test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import runpy
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, PolicySource, overlay
from ringfence.scripts import RunResult, ScriptRequest, Task, Verdict, carry_out, run_under
from ringfence_health_checks import catalogue
from sqlalchemy.engine import make_url

from tests.certificates import PrivateTls, private_tls
from tests.cli.conftest import Command, command, own_environment
from tests.primitives import lacking, requires
from tests.real_plugins.services import own_address, serving
from tests.world_hosts import resolve

__all__ = ["command", "own_environment"]

SCRIPTS = Path(catalogue.__file__).parent / "scripts"
NEEDS_THE_HOST = {
    "disk": {},
    "memory": {},
    "load": {},
    "process": {"name": "sh"},
    "systemd-unit": {"unit": "cron"},
    "log-pattern": {"path": "/var/log/no-such-log", "pattern": "x"},
}


def tried(name: str, settings: Mapping[str, object], policy: Mapping[str, Any] | None = None) -> Verdict:
    """What a ready check says in a real sandbox under this partial policy."""
    ready = catalogue.ready(name)
    given = {key: str(value) for key, value in settings.items()}
    task = Task(kind="python", script=ready.source, file_name=ready.file_name, env=ready.variables(given))
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, dict(policy or {})), source=PolicySource.FILE)

    async def secrets(_: object) -> dict[str, str]:
        return {}

    async def run(request: ScriptRequest) -> RunResult:
        return await run_under(snapshot, request)

    return asyncio.run(carry_out(task, {}, secrets=secrets, run=run, timeout_ms=60_000)).verdict


def main_of(name: str, monkeypatch: pytest.MonkeyPatch, **variables: str) -> dict[str, Any]:
    """What the script itself says, run here with these variables."""
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    found = runpy.run_path(str(SCRIPTS / f"{name.replace('-', '_')}.py"))["main"]({})
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def address() -> str:
    return own_address() or lacking("this machine has no address but its loopback's")


@pytest.fixture(scope="module")
def ports(address: str) -> Iterator[dict[str, int]]:
    with serving(address) as found:
        yield found


def test_each_says_what_it_does_and_what_can_be_set_of_it() -> None:
    wanted = "certificate disk dns http load log-pattern memory ping postgres process systemd-unit tcp"  # the issue's
    assert " ".join(catalogue.names()) == wanted
    for name in catalogue.names():
        ready = catalogue.ready(name)
        assert ready.summary.endswith("."), name
        used = {part.split('"')[0] for part in ready.source.split('"CHECK_')[1:]}
        assert used == {one.variable.removeprefix("CHECK_") for one in ready.settings}, name
        task = Task(kind="python", script=ready.source, file_name=ready.file_name)
        assert task.read_as == "verdict"


@requires("user namespaces")
@pytest.mark.parametrize("name", NEEDS_THE_HOST)
def test_what_looks_at_the_host_is_unknown_without_the_grant(name: str) -> None:
    verdict = tried(name, NEEDS_THE_HOST[name])
    assert (verdict.status, dict(verdict.metrics)) == ("unknown", {})
    assert "grants" in verdict.message


@pytest.fixture
def shown() -> Iterator[Path]:
    """A directory that everybody may read."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


# As root, runs have a uid of their own; without one they are not shown processes.
@requires("user namespaces", "root")
def test_what_looks_at_the_host_has_its_numbers_with_the_grant(shown: Path) -> None:
    log = shown / "log"
    log.write_text("fine\nERROR one\n")
    policy = {"filesystem": {"hostView": ["processes", "disks"], "hostPaths": [str(log)]}}
    numbers = os.statvfs("/")
    disk = tried("disk", {"warn": 101, "crit": 102}, policy)
    assert disk.status == "healthy"
    assert disk.metrics["free"].value == pytest.approx(numbers.f_bavail * numbers.f_frsize, rel=0.1)
    assert tried("disk", {"warn": 0, "crit": 102}, policy).status == "degraded"
    assert tried("memory", {"warn": 101, "crit": 102}, policy).status == "healthy"
    assert tried("load", {"warn": 10000, "crit": 10001}, policy).status == "healthy"
    name = Path("/proc/self/comm").read_text().strip()
    assert tried("process", {"name": name}, policy).status == "healthy"
    assert tried("process", {"name": "no-such-program"}, policy).status == "unhealthy"
    if Path("/proc/1/comm").read_text().strip() == "systemd":
        assert tried("systemd-unit", {"unit": "init.scope"}, policy).status == "healthy"
    found = tried("log-pattern", {"path": log, "pattern": "ERR"}, policy)
    assert (found.status, found.message) == ("degraded", "ERROR one")
    # The word for the network shows no process and no file system.
    network = {"filesystem": {"hostView": ["network"]}}
    assert tried("process", {"name": name}, network).status == "unknown"
    assert tried("disk", {}, network).status == "unknown"


@requires("user namespaces", "slirp4netns")
@pytest.mark.parametrize(
    ("settings", "status", "message"),
    [
        ({}, "healthy", "answered 200"),
        ({"contains": "ready"}, "healthy", "answered 200"),
        ({"contains": "absent"}, "unhealthy", "does not contain 'absent'"),
        ({"expect": 404}, "unhealthy", "answered 200, not 404"),
        ({"warn_ms": 0.001}, "degraded", "answered 200"),
        ({"url": "http://{address}:9/"}, "unhealthy", "no answer"),
        ({"url": "file:///etc/passwd"}, "unknown", "no address of a web server"),
    ],
)
def test_http(
    address: str, ports: dict[str, int], settings: dict[str, Any], status: str, message: str
) -> None:
    settings = {"url": f"http://{address}:{ports['http']}/", **settings}
    settings["url"] = settings["url"].format(address=address)
    verdict = tried("http", settings, {"network": {"allow": [f"{address}:{ports['http']}", f"{address}:9"]}})
    assert (verdict.status, message in verdict.message) == (status, True), verdict
    if "answered" in message:
        assert (verdict.metrics["code"].value, verdict.metrics["time"].unit) == (200, "ms")


@requires("user namespaces", "slirp4netns")
@pytest.mark.parametrize(
    ("port", "settings", "status"),
    [
        ("tcp", {}, "healthy"),
        ("smtp", {"expect": "220 mail"}, "healthy"),
        ("smtp", {"send": "NOOP", "expect": "250 fine"}, "healthy"),
        ("tcp", {"expect": "goodbye", "timeout": 1}, "unhealthy"),
        ("closed", {}, "unhealthy"),
    ],
)
def test_tcp(address: str, ports: dict[str, int], port: str, settings: dict[str, Any], status: str) -> None:
    number = {**ports, "closed": 9}[port]
    policy = {"network": {"allow": [f"{address}:{number}"]}}
    verdict = tried("tcp", {"host": address, "port": number, **settings}, policy)
    assert verdict.status == status, verdict


@requires("user namespaces", "slirp4netns")
def test_dns(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 0))
        port = server.getsockname()[1]

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    query, peer = server.recvfrom(4096)
                    if query == b"end":
                        return
                    server.sendto(resolve(query), peer)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        settings, policy = (
            {"name": "web.example", "server": address, "port": port},
            {"network": {"allow": [f"{address}:{port}"]}},
        )
        try:
            found = tried("dns", settings, policy)
            assert (found.status, found.message) == ("healthy", "web.example is 10.9.0.1"), found
            assert tried("dns", {**settings, "expect": "10.9.0.1"}, policy).status == "healthy"
            assert tried("dns", {**settings, "expect": "10.9.0.2"}, policy).status == "unhealthy"
            assert tried("dns", {**settings, "timeout": 1}, {}).status == "unhealthy"
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"end", (address, port))
            thread.join()
    assert tried("dns", {"name": "localhost"}).status == "healthy"
    assert tried("dns", {"name": "no-such.invalid"}).status == "unhealthy"


@pytest.fixture
def secure(address: str, tmp_path: Path) -> Iterator[tuple[int, PrivateTls]]:
    tls = private_tls(tmp_path)
    with socket.create_server((address, 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with (
                        contextlib.suppress(OSError),
                        tls.server.wrap_socket(connection, server_side=True) as one,
                    ):
                        one.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], tls
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@requires("user namespaces", "slirp4netns")
def test_certificate(address: str, secure: tuple[int, PrivateTls]) -> None:
    port, tls = secure
    policy = {"network": {"allow": [f"{address}:{port}"]}}
    settings = {"host": address, "port": port, "name": "127.0.0.1", "ca": tls.ca_file.read_text()}
    soon = tried("certificate", settings, policy)
    assert soon.status == "unhealthy"
    assert soon.metrics["days"].value == pytest.approx(1 / 24, abs=0.02)
    assert tried("certificate", {**settings, "crit_days": 0.001}, policy).status == "degraded"
    assert (
        tried("certificate", {**settings, "crit_days": 0.001, "warn_days": 0.002}, policy).status == "healthy"
    )
    for wrong in ({"name": "other.example"}, {"ca": ""}):
        found = tried("certificate", {**settings, **wrong, "crit_days": 0.001, "warn_days": 0.002}, policy)
        assert (found.status, dict(found.metrics)) == ("unhealthy", {})


@contextlib.contextmanager
def relayed(path: str) -> Iterator[int]:
    """A port of the loopback that leads to a Unix socket."""
    ready, done = threading.Event(), threading.Event()
    ports: list[int] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(4096):
                writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_unix_connection(path)
        await asyncio.gather(pass_on(reader, there[1]), pass_on(there[0], writer))

    async def serve() -> None:
        async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
            ports.append(server.sockets[0].getsockname()[1])
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield ports[0]
    finally:
        done.set()
        thread.join()


def test_postgres(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = make_url(database_url)
    with relayed(f"{url.query['host']}/.s.PGSQL.{url.port or 5432}") as port:
        place = {
            "CHECK_HOST": "127.0.0.1",
            "CHECK_PORT": str(port),
            "CHECK_USER": url.username or "",
            "CHECK_DATABASE": url.database or "",
        }
        found = main_of("postgres", monkeypatch, **place, CHECK_QUERY="SELECT 6 * 7")
        assert (found["status"], found["metrics"]["value"]) == ("healthy", 42.0)
        found = main_of("postgres", monkeypatch, **place, CHECK_QUERY="SELECT no_such_column")
        assert (found["status"], "no_such_column" in found["message"]) == ("unhealthy", True)
        found = main_of("postgres", monkeypatch, **{**place, "CHECK_DATABASE": "no_such_database"})
        assert (found["status"], "no_such_database" in found["message"]) == ("unhealthy", True)
    assert main_of("postgres", monkeypatch, **place)["status"] == "unhealthy"


def test_postgres_signs_in_by_scram() -> None:
    # The example of RFC 7677, section 3.
    answer = runpy.run_path(str(SCRIPTS / "postgres.py"))["scram_answer"]
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    challenge = f"r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    assert answer("pencil", "n=user,r=rOprNGfwEbeRWgbNEkqO", challenge) == (
        f"c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=".encode()
    )


@requires("user namespaces")
def test_ping_is_unknown_where_the_sandbox_sends_no_icmp() -> None:
    found = tried("ping", {"host": "127.0.0.1"})
    assert found.status == "unknown", found
    assert "from this sandbox" in found.message


def test_the_hosts_numbers_are_told_where_they_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    found = main_of("memory", monkeypatch, HOST_PROC="/proc", CHECK_WARN="101", CHECK_CRIT="102")
    total = int(Path("/proc/meminfo").read_text().split()[1])
    assert (found["status"], found["metrics"]["available"]["max"]) == ("healthy", total)
    assert main_of("memory", monkeypatch, HOST_PROC="/proc", CHECK_CRIT="0.001")["status"] == "unhealthy"
    found = main_of("load", monkeypatch, HOST_PROC="/proc", CHECK_WARN="100000", CHECK_CRIT="100001")
    assert found["status"] == "healthy"
    assert found["message"].endswith(f"on {os.cpu_count()} processors")
    name = Path("/proc/self/comm").read_text().strip()
    for least, most, status in (("1", "0", "healthy"), ("100000", "0", "unhealthy")):
        found = main_of(
            *("process", monkeypatch), HOST_PROC="/proc", CHECK_NAME=name, CHECK_LEAST=least, CHECK_MOST=most
        )
        assert found["status"] == status, found
    if os.path.exists("/etc/mtab"):
        found = main_of("disk", monkeypatch, HOST_PROC="/proc", CHECK_WARN="101", CHECK_CRIT="102")
        numbers = os.statvfs("/")
        assert found["status"] == "healthy"
        assert found["metrics"]["free"]["value"] == pytest.approx(
            numbers.f_bavail * numbers.f_frsize, rel=0.1
        )
        assert main_of("disk", monkeypatch, CHECK_PATH="/no/such/mount")["status"] == "unknown"


def test_a_unit_runs_if_it_has_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for pid, comm, group in (
        ("1", "systemd", "0::/init.scope"),
        ("77", "nginx", "0::/system.slice/nginx.service"),
    ):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "comm").write_text(f"{comm}\n")
        (tmp_path / pid / "cgroup").write_text(f"{group}\n")
    proc = str(tmp_path)
    assert main_of("systemd-unit", monkeypatch, HOST_PROC=proc, CHECK_UNIT="nginx")["status"] == "healthy"
    assert main_of("systemd-unit", monkeypatch, HOST_PROC=proc, CHECK_UNIT="ngin")["status"] == "unhealthy"
    (tmp_path / "1" / "comm").write_text("init\n")
    assert main_of("systemd-unit", monkeypatch, HOST_PROC=proc, CHECK_UNIT="nginx")["status"] == "unknown"


def test_a_log_is_looked_at_from_where_the_last_run_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log, state = tmp_path / "log", tmp_path / "state"
    state.mkdir()
    log.write_text("fine\nERROR one\n")
    given = {"CHECK_PATH": str(log), "CHECK_PATTERN": "ERROR"}
    assert main_of("log-pattern", monkeypatch, **given, CHECK_CRIT="1")["status"] == "unhealthy"
    assert main_of("log-pattern", monkeypatch, **given, CHECK_CRIT="2")["message"] == "ERROR one"
    kept = {**given, "RINGFENCE_STATE_DIR": str(state)}
    assert main_of("log-pattern", monkeypatch, **kept)["status"] == "degraded"
    assert main_of("log-pattern", monkeypatch, **kept)["status"] == "healthy"
    with log.open("a") as more:
        more.write("ERROR two\nERROR thr")
    assert main_of("log-pattern", monkeypatch, **kept)["message"] == "ERROR two"
    with log.open("a") as more:
        more.write("ee\n")
    assert main_of("log-pattern", monkeypatch, **kept)["message"] == "ERROR three"
    log.write_text("ERROR new\n")
    assert main_of("log-pattern", monkeypatch, **kept)["message"] == "ERROR new"
    assert main_of("log-pattern", monkeypatch, **{**kept, "CHECK_PATTERN": "("})["status"] == "unknown"


@requires("user namespaces")
def test_they_are_listed_shown_and_tried_by_name(command: Command) -> None:
    listed = command("check", "catalogue", "list", "--json").json["checks"]
    assert [one["name"] for one in listed] == list(catalogue.names())
    assert "log-pattern" in command("check", "catalogue").stdout
    shown = command("check", "catalogue", "show", "systemd-unit").stdout
    assert shown == (SCRIPTS / "systemd_unit.py").read_text()
    outcome = command("check", "try", "--from", "dns", "--set", "name=localhost", "--json")
    assert (outcome.status, outcome.json["kind"], outcome.json["format"]) == (0, "python", "verdict")
    for wrong, reason in (
        (("--from", "none"), "There are: certificate"),
        (("--from", "http"), "http needs: --set url=…"),
        (("--from", "http", "--set", "urk=x"), "http has no setting 'urk'"),
        (("--from", "http", "--set", "url=x", "-c", "true"), "no FILE and no CODE"),
        (("-c", "true", "--set", "url=x"), "name it by --from"),
    ):
        outcome = command("check", "try", *wrong)
        assert (outcome.status, reason in outcome.stderr) == (2, True), outcome.stderr
    given = ("--set", "host=127.0.0.1", "--env", "CHECK_PORT=1", "--json")
    outcome = command("check", "try", "--from", "tcp", *given)
    assert (outcome.status, outcome.json["status"]) == (2, "unhealthy")
