"""A host behind a real nginx and a real HAProxy, configured as docs/behind-a-proxy.md has them."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.certificates import PrivateTls, private_tls
from tests.cli.instances import RINGFENCE, Command
from tests.primitives import has, requires
from tests.proxies.standing import NAME, Standing, clean_environment, forwarding, standing

PROXIES = [
    pytest.param("nginx", marks=pytest.mark.skipif(not has("nginx"), reason="nginx is not installed")),
    pytest.param("haproxy", marks=pytest.mark.skipif(not has("haproxy"), reason="HAProxy is not installed")),
]
pytestmark = [pytest.mark.slow, requires("user namespaces")]


@dataclass(frozen=True)
class Behind:
    """A host, the proxy before it, and the certificates of both sides."""

    data_dir: Path
    proxy: Standing
    tls: PrivateTls

    @property
    def token(self) -> str:
        return (self.data_dir / "admin-token").read_text().strip()


@pytest.fixture(scope="module")
def host() -> Iterator[tuple[Path, int]]:
    """A host that knows under which address it is reached; its data directory and its port."""
    directory = Path(tempfile.mkdtemp(prefix="ringfence-test-"))
    directory.chmod(0o711)
    data_dir = directory / "data"
    environ = {"RINGFENCE_PUBLIC_URL": f"https://{NAME}", "RINGFENCE_DATA_DIR": str(data_dir)}
    up = Command("up", "--port", "0", "--data-dir", str(data_dir), "--no-satellite", **environ)
    try:
        up.until_it_says("Ctrl-C")
        [port] = re.findall(r"running at http://127.0.0.1:(\d+)", up.output)
        yield data_dir, int(port)
    finally:
        up.process.terminate()
        up.ended()
        up.end()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=PROXIES)
def behind(request: pytest.FixtureRequest, host: tuple[Path, int], tmp_path: Path) -> Iterator[Behind]:
    data_dir, port = host
    tls = private_tls(tmp_path, NAME)
    with standing(request.param, port, tls, tmp_path) as proxy:
        yield Behind(data_dir, proxy, tls)


def ran(environ: dict[str, str], *arguments: str, status: int = 0) -> str:
    """What a command prints, in an environment that has no more than this."""
    done = subprocess.run(
        [*RINGFENCE, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=clean_environment(**environ),
    )
    assert done.returncode == status, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def test_commands_and_a_satellite_go_through_it_and_through_a_proxy_on_the_way(
    behind: Behind, tmp_path: Path
) -> None:
    url, token_file, agent_token = f"https://{NAME}:8443/core", tmp_path / "admin", tmp_path / "agent-token"
    token_file.write_text(behind.token)
    ours = ("--ca-file", str(behind.tls.ca_file), "--client-cert", str(behind.tls.client))
    with forwarding(behind.proxy) as forward:
        environ = {"HTTPS_PROXY": forward.url, "XDG_CONFIG_HOME": str(tmp_path / "config")}
        login = ("login", url, "--token-file", str(token_file))
        ran(environ, *login, status=1)  # nobody whom we trust has signed its certificate
        ran(environ, *ours[:2], *login, status=1)  # and it asks for ours
        ran(environ, *ours, *login)
        create = ("satellite", "create", f"s{behind.proxy.port}", "--token-file", str(agent_token), "--json")
        satellite = json.loads(ran(environ, *create))["satellite"]["id"]
        agent = Command(
            *("agent", "--url", url, *ours, "--token-file", str(agent_token), "--client-id", satellite),
            **{**environ, "RINGFENCE_AGENT_STATE_DIR": str(tmp_path / "state")},
        )
        try:
            agent.until_it_says("policy applied")
            said = ran(environ, "run", "--satellite", satellite, "-c", "echo through; exit 3", status=3)
            assert said == "through\n"
        finally:
            agent.end()
        assert set(forward.asked) == {f"CONNECT {NAME}:8443"}
        ran(environ, "satellite", "delete", satellite, "--yes")


def browser(behind: Behind, **headers: str) -> httpx.Client:
    """A browser that trusts the proxy's certificate."""
    trusted = ssl.create_default_context(cafile=str(behind.tls.ca_file))
    here = f"https://127.0.0.1:{behind.proxy.port}"
    return httpx.Client(
        base_url=here, verify=trusted, headers={"accept": "text/html", "origin": here, **headers}, timeout=60
    )


def test_a_browser_signs_in_with_a_cookie_that_is_sent_over_tls_alone(behind: Behind) -> None:
    with browser(behind) as http:
        began = http.post("/sign-in", data={"token": behind.token})
        assert began.status_code == 303, began.text
        [cookie] = [
            one for one in began.headers.get_list("set-cookie") if one.startswith("__Host-ringfence=")
        ]
        assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))
        assert http.get("/plugins").status_code == 200


def test_an_open_page_hears_of_a_change_while_its_answer_goes_on(behind: Behind) -> None:
    with browser(behind) as http:
        http.post("/sign-in", data={"token": behind.token})
        page = http.get("/events").text
        parts = re.findall(r'data-part="([^"]+)"[^>]*data-live', page)
        assert parts
        with http.stream("GET", "/live", params={"watch": parts}) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("retry:")
            api(
                behind,
                "POST",
                "/api/satellite/satellites",
                json={"name": f"t{behind.proxy.port}", "region": "eu"},
            )
            assert any(line == "event: anew" for line in lines)


def test_the_host_is_told_whom_the_proxy_speaks_for_and_a_client_cannot_say_so_itself(behind: Behind) -> None:
    with browser(behind, **{"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "http"}) as http:
        began = http.post("/sign-in", data={"token": behind.token})
        assert "Secure" in began.headers["set-cookie"]
        sessions = api(behind, "GET", "/api/host/sessions")["sessions"]
    assert "203.0.113.7" not in str(sessions)
    assert "127.0.0.1" in {one["peer"] for one in sessions}


def test_a_body_may_be_as_large_as_the_host_takes_it(behind: Behind) -> None:
    text = "x" * 3_000_000
    with browser(behind) as http:
        answer = http.post(
            "/api/health-checks/checks",
            json={"name": text},
            headers={"authorization": f"Bearer {behind.token}", "accept": "application/json"},
        )
    assert answer.status_code == 422, answer.text[:300]


def api(behind: Behind, method: str, path: str, **more: Any) -> Any:
    """What the API answers through the proxy."""
    with browser(behind) as http:
        headers = {"authorization": f"Bearer {behind.token}", "accept": "application/json"}
        answer = http.request(method, path, headers=headers, **more)
        assert answer.is_success, answer.text
        return answer.json()
