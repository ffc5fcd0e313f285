"""The Unix sockets that a policy gives: each of them alone, as it is now, and not to be changed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.escapes.conftest import Supervisor
from tests.escapes.reach import KEPT
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.every_wrapper


class Service:
    """Says its name to whoever connects, and remembers by which uid they did."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.uids: list[int] = []
        self._name = name
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        path.chmod(0o666)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                if connection.recv(16):
                    self.uids.append(struct.unpack("3i", peer)[1])
                    connection.sendall(self._name.encode())

    def close(self) -> None:
        """End it; the file stays."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_SECONDS)
        self._listener.close()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the host that everybody may reach."""
    directory = Path(tempfile.mkdtemp(prefix="ringfence-sockets-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def service(place: Path) -> Iterator[Service]:
    """A service at a socket there."""
    made = Service(place / "service.sock", "the service")
    yield made
    made.close()


def giving(*paths: Path | str, **others: Any) -> dict[str, Any]:
    """A policy that gives these sockets and nothing else of a network."""
    return {"network": {"allow": [f"unix:{path}" for path in paths]}, **others}


ASK = """
import socket
for path in PATHS:
    asked = socket.socket(socket.AF_UNIX)
    try:
        asked.connect(path)
        asked.sendall(b'?')
        print(asked.recv(100).decode())
    except OSError as error:
        print(type(error).__name__)
"""


def asking(*paths: Path | str) -> str:
    return ASK.replace("PATHS", repr(list(map(str, paths))))


def test_the_socket_is_there_at_its_own_path_and_none_beside_it(
    supervisor: Supervisor, place: Path, service: Service
) -> None:
    beside = Service(place / "beside.sock", "beside")
    try:
        script = asking(service.path, beside.path) + f"import os; print(os.listdir({str(place)!r}))"
        result = supervisor.run("python", script, policy=giving(service.path))
    finally:
        beside.close()
    assert result.stdout == "the service\nFileNotFoundError\n['service.sock']\n", result.sandbox
    assert result.sandbox.enforced.network
    assert result.sandbox.enforced.filesystem
    assert str(service.path) in result.sandbox.mechanisms["sockets"]
    assert any("SO_PEERCRED" in note.note for note in result.sandbox.notes)


def test_who_connects_has_the_runs_own_uid(cold_supervisor: Supervisor, service: Service) -> None:
    result = cold_supervisor.run("python", asking(service.path), policy=giving(service.path))
    assert result.stdout == "the service\n"
    [uid] = service.uids
    assert uid != 0


def test_without_the_entry_no_socket_of_the_host_is_there(
    cold_supervisor: Supervisor, service: Service
) -> None:
    assert cold_supervisor.run("python", asking(service.path), policy={}).stdout == "FileNotFoundError\n"
    denied = giving(service.path)
    denied["network"]["mode"] = "deny"
    assert cold_supervisor.run("python", asking(service.path), policy=denied).stdout == "FileNotFoundError\n"


CHANGES = """
import os, socket
path = PATH
def attempt(what, attempted):
    try:
        attempted()
        print(what)
    except OSError:
        pass
attempt('removed', lambda: os.unlink(path))
attempt('renamed', lambda: os.rename(path, path + '2'))
attempt('linked', lambda: os.link(path, '/tmp/other'))
attempt('mode', lambda: os.chmod(path, 0o777))
attempt('owner', lambda: os.chown(path, os.getuid(), -1))
attempt('times', lambda: os.utime(path))
attempt('beside', lambda: socket.socket(socket.AF_UNIX).bind(path + '2'))
attempt('up', lambda: os.listdir(os.path.dirname(path) + '/../../lib'))
attempt('through', lambda: os.open(path + '/..', os.O_RDONLY))
"""


def test_it_cannot_be_changed_nor_lead_anywhere(cold_supervisor: Supervisor, service: Service) -> None:
    before = os.stat(service.path)
    script = CHANGES.replace("PATH", repr(str(service.path)))
    result = cold_supervisor.run("python", script, policy=giving(service.path))
    after = os.stat(service.path)
    assert (result.stdout, result.stderr) == ("", "")
    assert (before.st_mode, before.st_uid, before.st_mtime_ns) == (
        after.st_mode,
        after.st_uid,
        after.st_mtime_ns,
    )


def test_abstract_sockets_of_the_host_stay_out_of_reach(
    cold_supervisor: Supervisor, service: Service
) -> None:
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0ringfence-{os.getpid()}")
        abstract.listen()
        script = asking(f"\0ringfence-{os.getpid()}")
        result = cold_supervisor.run("python", script, policy=giving(service.path))
    assert result.stdout == "ConnectionRefusedError\n"


def test_datagrams_reach_it(cold_supervisor: Supervisor, place: Path) -> None:
    path = place / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(path))
        path.chmod(0o666)
        log.settimeout(30)
        script = (
            f"import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'line', {str(path)!r})"
        )
        result = cold_supervisor.run("python", script, policy=giving(path))
        assert result.exit_code == 0, result.stderr
        assert log.recv(100) == b"line"


def test_a_link_to_a_socket_gives_what_it_leads_to(
    supervisor: Supervisor, place: Path, service: Service
) -> None:
    link = place / "link"
    link.symlink_to(service.path)
    script = asking(link, service.path)
    assert supervisor.run("python", script, policy=giving(link)).stdout == "the service\nFileNotFoundError\n"


def test_a_socket_beneath_tmp_is_there_in_the_runs_own_tmp(cold_supervisor: Supervisor) -> None:
    directory = Path(tempfile.mkdtemp(prefix="ringfence-sockets-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        service = Service(directory / "service.sock", "in tmp")
        try:
            result = cold_supervisor.run("python", asking(service.path), policy=giving(service.path))
        finally:
            service.close()
    finally:
        shutil.rmtree(directory)
    assert result.stdout == "in tmp\n", result.sandbox


def test_after_the_service_made_its_socket_again_the_next_run_has_the_new_one(
    supervisor: Supervisor, service: Service
) -> None:
    policy = giving(service.path)
    assert supervisor.run("python", asking(service.path), policy=policy).stdout == "the service\n"
    service.path.unlink()
    again = Service(service.path, "made again")
    try:
        assert supervisor.run("python", asking(service.path), policy=policy).stdout == "made again\n"
    finally:
        again.close()


def test_one_that_is_not_there_is_told_and_refuses_nothing(cold_supervisor: Supervisor, place: Path) -> None:
    result = cold_supervisor.run("shell", "echo ran", policy=giving(place / "absent.sock"))
    assert result.stdout == "ran\n"
    [told] = [note.note for note in result.sandbox.notes if "absent.sock" in note.note]
    assert told == f"unix:{place}/absent.sock cannot be found: No such file or directory"


def test_one_that_is_closed_to_runs_is_told(
    cold_supervisor: Supervisor, place: Path, service: Service
) -> None:
    def told() -> str:
        result = cold_supervisor.run("python", asking(service.path), policy=giving(service.path))
        assert result.stdout == "FileNotFoundError\n"
        return " ".join(note.note for note in result.sandbox.notes if str(place) in note.note)

    os.chown(service.path, os.getuid() or 4711, -1)
    service.path.chmod(0o600)
    assert f"chmod o+w {service.path}" in told()
    service.path.chmod(0o666)
    place.chmod(0o700)
    # Who is not root cannot even look.
    assert f"chmod o+x {place}" in (said := told()) or "Permission denied" in said


def lacking(supervisor: Supervisor, policy: dict[str, Any], script: str = "") -> tuple[str, str]:
    """Of which layer such a run lacks what; it goes on with what there is."""
    result = supervisor.run("python", script, policy={**policy, "onUnavailable": "degrade"})
    assert "the service" not in result.stdout
    [downgrade] = result.sandbox.downgrades
    return downgrade.layer, downgrade.reason


@pytest.mark.parametrize("kind", ["file", "directory", "pipe", "leads to a file", "leads into proc"])
def test_what_is_no_socket_is_lacking_by_name(cold_supervisor: Supervisor, place: Path, kind: str) -> None:
    path = place / "asked"
    match kind:
        case "file":
            path.write_text("")
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "leads to a file":
            path.symlink_to("/etc/passwd")
        case _:
            path.symlink_to("/proc/version")
    layer, reason = lacking(cold_supervisor, giving(path))
    assert layer == "network"
    assert reason.startswith(f"network.allow: unix:{path} cannot be given: ")


def test_what_the_supervisor_keeps_is_not_given(cold_supervisor: Supervisor) -> None:
    kept = Path(KEPT)
    kept.mkdir(parents=True, exist_ok=True)
    try:
        service = Service(kept / "own.sock", "the service")
        try:
            link = kept.parent / "link"
            link.symlink_to(service.path)
            reasons = [
                lacking(cold_supervisor, giving(path), asking(path))[1] for path in (service.path, link)
            ]
        finally:
            service.close()
    finally:
        shutil.rmtree(kept.parent)
    assert all("among what this program keeps to itself" in reason for reason in reasons)


def test_beside_a_directory_of_the_host_none_is_given(
    cold_supervisor: Supervisor, place: Path, service: Service
) -> None:
    policy = giving(service.path, filesystem={"hostPaths": [str(place)]})
    layer, reason = lacking(cold_supervisor, policy, asking(service.path))
    assert layer == "network"
    assert "it could connect to every socket in these" in reason


def test_beside_a_single_file_and_a_view_of_the_host_it_is_given(
    cold_supervisor: Supervisor, place: Path, service: Service
) -> None:
    (place / "file").write_text("of the host")
    policy = giving(service.path, filesystem={"hostPaths": [f"{place}/file"], "hostView": ["network"]})
    script = asking(service.path) + f"print(open('{place}/file').read())"
    result = cold_supervisor.run("python", script, policy=policy)
    assert result.stdout == "the service\nof the host\n", json.dumps(result.sandbox.model_dump(mode="json"))
