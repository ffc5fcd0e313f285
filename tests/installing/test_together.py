"""What deploy/compose.yaml starts, as it says and without containers: it finds itself, and goes on with one host."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from sqlalchemy import make_url

from tests.cli.instances import RINGFENCE, Command
from tests.primitives import PROGRAMS, requires
from tests.waiting import wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
SERVICES: Mapping[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
HAPROXY = shutil.which("haproxy", path=PROGRAMS)
SATELLITES = "/api/satellite/satellites"


def first_start(settings: Path, password: Path) -> None:
    for each in (settings, password):
        each.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["sh", str(DEPLOY / "compose/first-start.sh"), str(settings), str(password)], check=True)


def test_the_first_start_draws_what_is_shared_once(tmp_path: Path) -> None:
    settings, password = tmp_path / "settings", tmp_path / "password"
    first_start(settings, password)
    written = settings / "ringfence.toml"
    told = tomllib.loads(written.read_text())
    url = make_url(told["database_url"])
    kept = (password / "password").read_text()
    assert (url.username, url.password, url.host, url.port, url.database) == (
        *("ringfence", kept, "postgres", 5432, "ringfence"),
    )
    assert re.fullmatch("[0-9a-f]{64}", kept)
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    # PostgreSQL's user has to read that one.
    assert (stat.S_IMODE(password.stat().st_mode), stat.S_IMODE((password / "password").stat().st_mode)) == (
        *(0o755, 0o444),
    )
    before = written.read_text()
    first_start(settings, password)
    assert (written.read_text(), (password / "password").read_text()) == (before, kept)
    # A start that was cut off is made up for, with the password that is there.
    written.unlink()
    first_start(settings, password)
    assert make_url(tomllib.loads(written.read_text())["database_url"]).password == kept
    assert sorted(one.name for one in (*settings.iterdir(), *password.iterdir())) == [
        "password",
        "ringfence.toml",
    ]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def started() -> Iterator[list[Command]]:
    processes: list[Command] = []
    yield processes
    for one in processes:
        one.end()


def environment(name: str, **instead: str) -> dict[str, str]:
    """What a service is told, with what is otherwise here in place of that."""
    told = SERVICES[name]["environment"]
    assert set(instead) <= set(told)
    return {**told, **instead}


@pytest.mark.slow
@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
@requires("user namespaces")
def test_two_hosts_behind_the_proxy_have_a_satellite_that_registers_itself(
    database_url: str, open_directory: Path, started: list[Command], tmp_path: Path
) -> None:
    settings, credentials = open_directory / "settings", open_directory / "credentials"
    first_start(settings, open_directory / "password")
    config = settings / "ringfence.toml"
    told = tomllib.loads(config.read_text())["database_url"]
    config.write_text(config.read_text().replace(told, database_url.replace("+psycopg", "")))
    port = free_port()
    public = f"http://127.0.0.1:{port}"
    urls = {}
    for name in ("host-1", "host-2"):
        data = open_directory / name
        shared = environment(
            name,
            RINGFENCE_CONFIG=str(config),
            RINGFENCE_PUBLIC_URL=public,
            RINGFENCE_TRUSTED_PROXIES="127.0.0.1",
        )
        host = Command("up", "--no-satellite", "--port", "0", "--data-dir", str(data), **shared)
        started.append(host)
        host.until_it_says("Ctrl-C")
        urls[name] = json.loads((data / "instance.json").read_text())["url"]

    text = (DEPLOY / "compose/haproxy.cfg").read_text()
    for name, url in urls.items():
        text = text.replace(f"{name}:8484", url.removeprefix("http://"))
    assert ":8484\n" in text
    (tmp_path / "haproxy.cfg").write_text(text.replace("bind :8484\n", f"bind 127.0.0.1:{port}\n"))
    proxy = subprocess.Popen(
        [str(HAPROXY), "-db", "-f", str(tmp_path / "haproxy.cfg")], stdout=subprocess.DEVNULL
    )
    token = (open_directory / "host-1/admin-token").read_text().strip()
    with proxy, httpx.Client(base_url=public, headers={"Authorization": f"Bearer {token}"}) as api:
        try:
            wait_until(lambda: status_of(api, "/readyz") == 200, "the proxy answers")
            # A token that may do no more than that.
            rules = [f"satellite.satellite.{one} on at=compose" for one in ("read", "manage", "place")]
            made = api.post("/api/host/tokens", json={"name": "enrol", "rules": rules}).json()
            (tmp_path / "token").write_text(made["token"])
            words = [
                str(credentials) if word == "/etc/ringfence/satellite" else word
                for word in SERVICES["enrol"]["command"]
            ]
            assert str(credentials) in words
            told_to_enrol = environment(
                "enrol", RINGFENCE_URL=public, RINGFENCE_TOKEN_FILE=str(tmp_path / "token")
            )
            for _ in range(2):
                subprocess.run([*RINGFENCE, *words], check=True, env={**os.environ, **told_to_enrol})
            id = (credentials / "client-id").read_text().strip()
            started.append(
                Command(
                    "agent",
                    **environment(
                        "satellite",
                        RINGFENCE_AGENT_URL=" ".join(urls.values()),
                        RINGFENCE_AGENT_CREDENTIALS=str(credentials),
                    ),
                    RINGFENCE_AGENT_STATE_DIR=str(open_directory / "satellite"),
                )
            )
            wait_until(lambda: is_online(api, id), "the satellite is online")
            assert api.get(f"{SATELLITES}/{id}").json()["labels"] == {"at": "compose"}
            assert ran(api, id) == "here\n"
            # One host goes in good order: the proxy and the satellite go on with the other.
            assert started[0].signalled(signal.SIGTERM) == 0
            wait_until(lambda: is_online(api, id), "the satellite is online at the other host")
            assert ran(api, id) == "here\n"
            assert api.post(f"{SATELLITES}/{id}/rotate-token").json()["publicUrl"] == public
        finally:
            proxy.terminate()


def status_of(api: httpx.Client, path: str) -> int:
    try:
        return api.get(path).status_code
    except httpx.TransportError:
        return 0


def is_online(api: httpx.Client, id: str) -> bool:
    answer = api.get(f"{SATELLITES}/{id}")
    shown = answer.json() if answer.status_code == 200 else {}
    return bool(shown.get("connectedAt")) and shown.get("appliedRevision") is not None


def ran(api: httpx.Client, id: str) -> str:
    """What a script writes there."""
    asked = {"kind": "shell", "script": "echo here"}
    run = api.post(f"{SATELLITES}/{id}/runs", params={"wait": 60}, json=asked, timeout=90).json()
    return str(run["result"]["stdout"])
