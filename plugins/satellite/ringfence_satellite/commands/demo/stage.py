"""The demo's machines: a host, two satellites and an outside service, in a temporary directory."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from ringfence.cli import Address, CliError, HostClient
from ringfence.process import children as processes
from ringfence.process.signals import STOPPING

from ringfence_satellite.client import SATELLITES
from ringfence_satellite.commands import remote_run
from ringfence_satellite.commands.demo.narration import StepFailed
from ringfence_satellite.commands.demo.network import Relay

START_SECONDS = 90.0
"""How long the host may take for its first start, database included."""
WAIT_SECONDS = 30.0
REMOVAL_SECONDS = 10.0
"""How long somebody may go on writing into the directory."""
_POLL_SECONDS = 0.02

Found = TypeVar("Found")


class Service:
    """A TCP service outside of every sandbox: it greets whoever connects, and counts them."""

    GREETING = "hello from outside"

    def __init__(self, address: str) -> None:
        self._listener = socket.create_server((address, 0))
        self.address = address
        self.port = int(self._listener.getsockname()[1])
        self.visitors = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                visitor, _ = self._listener.accept()
            except OSError:
                return
            self.visitors += 1
            with visitor, contextlib.suppress(OSError):
                visitor.sendall(self.GREETING.encode())

    def close(self) -> None:
        """Stop serving."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@dataclass
class Satellite:
    """One satellite of the demo, and the process of its agent."""

    name: str
    id: str
    process: subprocess.Popen[bytes]


class Stage:
    """Everything that the demo starts; leaving the block stops and removes all of it."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ringfence-demo-"))
        self.satellites: dict[str, Satellite] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._client: HostClient | None = None
        self._relays: list[Relay] = []
        self._services: list[Service] = []

    def __enter__(self) -> Self:
        self.directory.chmod(0o711)  # the database runs as a user of its own, and must pass through
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An impatient second Ctrl-C must leave nothing behind.
        before = {number: signal.signal(number, signal.SIG_IGN) for number in STOPPING}
        try:
            self._leave()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _leave(self) -> None:
        if self._client is not None:
            self._client.__exit__(None, None, None)
        for service in self._services:
            service.close()
        for relay in self._relays:
            relay.close()
        for process in reversed(self._processes):  # the agents first, then the host
            processes.stop(process)
        self._remove()

    def _remove(self) -> None:
        """Remove the directory; what a killed host has left behind, such as its database, may write for a moment."""
        deadline = time.monotonic() + REMOVAL_SECONDS
        shutil.rmtree(self.directory, ignore_errors=True)
        while self.directory.exists() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            shutil.rmtree(self.directory, ignore_errors=True)

    def check_gone(self) -> None:
        """Raises `StepFailed` if anything is left, or did not stop cleanly."""
        statuses = [process.returncode for process in self._processes]
        if any(status not in (0, -signal.SIGTERM) for status in statuses):
            raise StepFailed(f"the processes ended with {statuses}")
        if self.directory.exists():
            raise StepFailed(f"{self.directory} is still there")

    @property
    def host(self) -> HostClient:
        """The host, as its administrator talks to it."""
        if self._client is None:
            raise StepFailed("the host is not running")
        return self._client

    def start_host(self) -> str:
        """Start the host with its own database on a free port; returns its URL."""
        data_dir = self.directory / "data"
        arguments = [
            "up",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--data-dir",
            str(data_dir),
            "--no-satellite",
        ]
        process = self._start("host", arguments)
        note = data_dir / "instance.json"

        def noted_url() -> str | None:
            with contextlib.suppress(OSError, ValueError, KeyError):
                return str(json.loads(note.read_text())["url"])
            return None

        url = self._until(noted_url, process, "host", START_SECONDS, "the host did not start")
        token = (data_dir / "admin-token").read_text().strip()
        self._client = HostClient(Address(url, token))

        def ready() -> bool | None:
            # On a slow machine it answers a moment before it has caught up with its event log.
            with contextlib.suppress(CliError):
                self.host.request("GET", "/readyz")
                return True
            return None

        self._until(ready, process, "host", START_SECONDS, "the host did not become ready")
        return url

    def client(self, token: str) -> HostClient:
        """The same host, as the holder of another token talks to it."""
        return HostClient(Address(self.host.address.url, token))

    def start_satellite(self, name: str, *, through: Relay | None = None) -> Satellite:
        """Register a satellite and start its agent."""
        made = self.host.request("POST", SATELLITES, body={"name": name, "region": "demo", "tags": []})
        token_file = self.directory / f"{name}-token"
        token_file.touch(0o600)
        token_file.write_text(made["token"] + "\n")
        url = self.host.address.url if through is None else f"http://127.0.0.1:{through.port}"
        identity = str(made["satellite"]["id"])
        arguments = ["agent", "--url", url, "--client-id", identity, "--token-file", str(token_file)]
        satellite = Satellite(name, identity, self._start(name, arguments))
        self.satellites[name] = satellite
        return satellite

    def relay(self) -> Relay:
        """A network to the host that can be cut."""
        parts = urlsplit(self.host.address.url)
        relay = Relay((parts.hostname or "127.0.0.1", parts.port or 80))
        self._relays.append(relay)
        return relay

    def open_service(self) -> Service | None:
        """A service at an address of this machine that is not loopback; None if it has no such address."""
        address = outward_address()
        if address is None:
            return None
        service = Service(address)
        self._services.append(service)
        return service

    def state(self, satellite: Satellite) -> dict[str, Any]:
        """The satellite as the host sees it now."""
        state: dict[str, Any] = self.host.request("GET", f"{SATELLITES}/{satellite.id}")
        return state

    def until_applied(self, satellite: Satellite, revision: int) -> dict[str, Any]:
        """Wait until the satellite is online and has acknowledged `revision`; returns its state then."""

        def applied() -> dict[str, Any] | None:
            state = self.state(satellite)
            there = state["status"] == "online" and state.get("appliedRevision") == revision
            return state if there else None

        what = f"{satellite.name} did not acknowledge revision {revision}"
        return self._until(applied, satellite.process, satellite.name, WAIT_SECONDS, what)

    def run(self, satellite: Satellite, kind: str, script: str) -> dict[str, Any]:
        """Run a script on a satellite."""
        body = {"kind": kind, "script": script, "timeoutMs": 20_000}
        run = remote_run.ask(self.host, {"id": satellite.id}, body)
        return remote_run.result_of(remote_run.until_ended(self.host, run))

    def _start(self, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("RINGFENCE_")}
        with self._log(name).open("wb") as log:
            process = processes.start(arguments, environ=environ, stderr=log)
        self._processes.append(process)
        return process

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def _until(
        self,
        found: Callable[[], Found | None],
        process: subprocess.Popen[bytes],
        name: str,
        seconds: float,
        otherwise: str,
    ) -> Found:
        deadline = time.monotonic() + seconds
        while (result := found()) is None:
            ended = process.poll()
            if ended is not None or time.monotonic() > deadline:
                why = f"it ended with status {ended}" if ended is not None else f"not within {seconds:g} s"
                raise StepFailed(f"{otherwise}: {why}\n{processes.tail(self._log(name))}")
            time.sleep(_POLL_SECONDS)
        return result


def outward_address() -> str | None:
    """An IPv4 address of this machine that is not loopback, as its routing table picks it; None without one.

    Connecting a UDP socket sends nothing; the documentation address stands for "anywhere".
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address = str(probe.getsockname()[0])
        except OSError:
            return None
    parsed = ipaddress.ip_address(address)
    return None if parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified else address
