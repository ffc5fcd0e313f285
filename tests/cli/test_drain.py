"""An instance that is to stop takes nothing new, ends what is under way, and its satellites go elsewhere."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from ringfence.plugins.draining import REASON
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.cli.instances import Command
from tests.primitives import requires
from tests.waiting import wait_until

DRAIN = "/api/host/drain"
SATELLITES = "/api/satellite/satellites"
RUNS = "/api/satellite/runs"
CHECKS = "/api/health-checks/checks"
A_SECOND = {"kind": "shell", "script": "sleep 1; echo done", "timeoutMs": 60_000}
FOR_LONG = {"kind": "shell", "script": "sleep 1000", "timeoutMs": 2_000_000}


@dataclass(frozen=True)
class Instance:
    """A running host, and an administrator's client."""

    command: Command
    url: str
    api: httpx.Client

    def ready(self) -> dict[str, Any]:
        answer = self.api.get("/readyz")
        shown: dict[str, Any] = answer.json()
        assert answer.status_code == (200 if shown["ready"] else 503)
        return shown


Start = Callable[..., Instance]


@pytest.fixture
def started() -> Iterator[list[Command]]:
    commands: list[Command] = []
    yield commands
    for one in commands:
        one.end()


@pytest.fixture
def start(database_url: str, open_directory: Path, started: list[Command]) -> Iterator[Start]:
    """Start an instance on the test's database."""
    clients: list[httpx.Client] = []

    def start(**environ: str) -> Instance:
        data_dir = open_directory / f"data-{len(started)}"
        command = Command(
            *("up", "--no-satellite", "--port", "0", "--data-dir", str(data_dir)),
            RINGFENCE_DATABASE_URL=database_url,
            **environ,
        )
        started.append(command)
        command.until_it_says("Ctrl-C")
        url = json.loads((data_dir / "instance.json").read_text())["url"]
        token = (data_dir / "admin-token").read_text().strip()
        api = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=90)
        clients.append(api)
        return Instance(command, url, api)

    yield start
    for api in clients:
        api.close()


@pytest.fixture
def agent(open_directory: Path, started: list[Command]) -> Callable[..., str]:
    """Register a satellite at the first of some instances, and have it connect to them; its id."""

    def start(name: str, *instances: Instance) -> str:
        made = instances[0].api.post(SATELLITES, json={"name": name, "region": "eu"}).json()
        id = str(made["satellite"]["id"])
        token_file = open_directory / f"token-of-{name}"
        token_file.write_text(made["token"])
        token_file.chmod(0o600)
        urls = [word for one in instances for word in ("--url", one.url)]
        state = ("--state-dir", str(open_directory / f"state-of-{name}"))
        started.append(Command("agent", *urls, "--client-id", id, "--token-file", str(token_file), *state))
        wait_until(lambda: is_online(instances[0], id), f"{name} is not online")
        return id

    return start


def is_online(instance: Instance, id: str) -> bool:
    shown = instance.api.get(f"{SATELLITES}/{id}").json()
    return bool(shown["status"] == "online" and shown["appliedRevision"] is not None)


def is_at_work(command: str) -> bool:
    """Whether a process with these arguments runs here."""
    return any(command.split() == (one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"]))


def told_offline(database_url: str) -> list[Any]:
    """The events that say that a satellite is offline."""
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        return connection.execute(
            "SELECT hook, payload FROM events WHERE hook = 'satellite-heartbeat-lost'"
            " OR (hook = 'satellite-disconnected' AND payload->>'clean' = 'true')"
        ).fetchall()


@requires("user namespaces")
@pytest.mark.slow
def test_satellites_move_nothing_is_told_offline_and_a_request_under_way_is_answered(
    start: Start, agent: Callable[..., str], database_url: str
) -> None:
    leaving, staying = start(), start()
    satellites = [agent(name, leaving, staying) for name in ("one", "two")]
    with ThreadPoolExecutor() as threads:
        path = f"{SATELLITES}/{satellites[0]}/runs"
        asked = threads.submit(leaving.api.post, path, params={"wait": 60}, json=A_SECOND)
        wait_until(lambda: leaving.api.get(path).json()["runs"], "the run is not there")

        answer = leaving.api.post(DRAIN)
        assert answer.status_code == 202
        assert answer.json()["draining"] is True
        answered = asked.result()

    assert leaving.command.ended() == 0
    assert answered.status_code == 201
    # It is told how far the run is, and asks the other one for the rest.
    ended = staying.api.get(f"{RUNS}/{answered.json()['id']}", params={"wait": 60})
    assert ended.json()["result"]["stdout"] == "done\n"
    for id in satellites:
        wait_until(partial(is_online, staying, id), "a satellite has not moved")
    again = staying.api.post(path, params={"wait": 25}, json=A_SECOND)
    assert again.json()["result"]["stdout"] == "done\n"
    assert told_offline(database_url) == []
    staying.command.until_it_says("this instance leads")
    assert staying.ready()["ready"] is True


def test_while_it_drains_it_is_not_ready_and_turns_websockets_away_with_a_reason(start: Start) -> None:
    host = start(RINGFENCE_DRAIN_SECONDS="300", RINGFENCE_DRAIN_LINGER_SECONDS="300")
    assert host.ready()["draining"] is False

    host.api.post(DRAIN)

    shown = host.ready()
    assert (shown["ready"], shown["draining"]) == (False, True)
    with connect(host.url.replace("http", "ws") + "/api/ws/satellite") as socket:
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=60)
        assert (socket.close_code, socket.close_reason) == (1013, REASON)
    assert host.api.get("/healthz").headers["connection"] == "close"
    # Asked again, it goes on as it is, and the first SIGTERM finds it at it; the second one ends it at once.
    assert host.api.post(DRAIN).status_code == 202
    host.command.process.send_signal(signal.SIGTERM)
    assert host.ready()["draining"] is True
    assert host.command.signalled(signal.SIGTERM) == 0


@requires("user namespaces")
@pytest.mark.slow
def test_who_only_waits_for_a_run_does_not_hold_up_the_end(start: Start, agent: Callable[..., str]) -> None:
    host = start(RINGFENCE_DRAIN_SECONDS="300")
    satellite = agent("one", host)
    with ThreadPoolExecutor() as threads:
        path = f"{SATELLITES}/{satellite}/runs"
        asked = threads.submit(host.api.post, path, params={"wait": 60}, json=FOR_LONG)
        wait_until(lambda: host.api.get(path).json()["runs"], "the run is not there")

        assert host.command.signalled(signal.SIGTERM) == 0
        answered = asked.result()

    assert (answered.status_code, answered.headers["connection"]) == (201, "close")
    assert answered.json()["state"] in {"queued", "delivered", "running"}
    assert "drained" in host.command.output
    assert "not drained in time" not in host.command.output


@requires("user namespaces")
@pytest.mark.slow
def test_what_takes_longer_than_the_deadline_is_not_waited_for(start: Start) -> None:
    host = start(RINGFENCE_DRAIN_SECONDS="1")
    check = {
        "name": "long",
        "system": "web-1",
        "kind": "shell",
        "script": (script := f"sleep 1000.{os.getpid()}"),
    }
    made = host.api.post(CHECKS, json={**check, "intervalSeconds": 9_000, "runsOn": {"core": True}})
    assert made.status_code == 201, made.text
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(host.api.post, f"{CHECKS}/{made.json()['id']}/run")
        wait_until(partial(is_at_work, script), "the check does not run")

        assert host.command.signalled(signal.SIGTERM) == 0
        cut_off = asked.result()

    assert (cut_off.status_code, cut_off.headers["retry-after"]) == (503, "1")
    assert "not drained in time" in host.command.output
    assert "Traceback" not in host.command.output


@pytest.mark.slow
def test_it_takes_the_rule_to_have_an_instance_stop(start: Start) -> None:
    host = start()
    made = host.api.post("/api/host/tokens", json={"name": "reader", "rules": ["host.plugin.read"]}).json()

    refused = host.api.post(DRAIN, headers={"Authorization": f"Bearer {made['token']}"})

    assert (refused.status_code, refused.json()["rule"]) == (403, "host.instance.drain")
    assert host.ready()["draining"] is False
