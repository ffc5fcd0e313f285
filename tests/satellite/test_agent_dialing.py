"""An address that cannot be reached, for whatever reason, is that address's matter; and tells nobody's password."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from ringfence.process.errors import UsageMistake
from ringfence.process.proxies import proxy_for
from ringfence.process.trust import TlsFiles
from ringfence_satellite.agent.connecting.dialing import why_not
from ringfence_satellite.agent.connecting.hosts import HostAddresses
from ringfence_satellite.agent.policy_state import AppliedPolicy
from ringfence_satellite.agent.settings import AgentSettings
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidProxy

from tests.certificates import private_tls
from tests.satellite.cores import ScriptedCore, scripted_core
from tests.satellite.test_agent_connection import serving, welcomed

PROXY_VARIABLES = (
    "http_proxy",
    "https_proxy",
    "ws_proxy",
    "wss_proxy",
    "all_proxy",
    "socks_proxy",
    "no_proxy",
)
ELSEWHERE = "wss://core.example.invalid"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def core() -> AsyncIterator[ScriptedCore]:
    async with scripted_core() as core:
        yield core


@pytest.fixture
def settings(core: ScriptedCore, tmp_path: Path) -> AgentSettings:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    return AgentSettings((core.url,), "satellite-1", token, heartbeat_seconds=0.02, version="9")


@pytest.mark.parametrize(
    ("proxy", "url"),
    [
        ("socks5h://127.0.0.1:1", ELSEWHERE),
        ("user:S3cret@127.0.0.1:8888", ELSEWHERE),
        ("http://user:S3cret@127.0.0.1:1", ELSEWHERE),
        ("http://127.0.0.1:not-a-port", ELSEWHERE),
        ("ftp://user:S3cret@127.0.0.1", ELSEWHERE),
        ("", f"wss://{'x' * 64}.example.invalid"),
        ("", "wss://127.0.0.1:1"),
    ],
)
async def test_the_next_address_is_tried(
    proxy: str,
    url: str,
    core: ScriptedCore,
    settings: AgentSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
    both = replace(settings, urls=(url, core.url))
    in_order = HostAddresses(both.urls, shuffle=lambda _: None)
    with capture_logs() as logs:
        async with serving(both, AppliedPolicy(), hosts=in_order):
            await welcomed(core)
    assert any(entry["event"] == "not connected" for entry in logs), logs
    assert "S3cret" not in str(logs)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "WSS_PROXY"])
def test_every_usual_variable_names_the_proxy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://proxy.example:3128")
    assert proxy_for("wss://core.example/api") == "http://proxy.example:3128"
    assert proxy_for("wss://127.0.0.1/api") is None
    monkeypatch.setenv("NO_PROXY", "core.example")
    assert proxy_for("wss://core.example/api") is None
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
    assert proxy_for("wss://10.1.2.3/api") is None


def test_a_failure_is_told_without_a_password() -> None:
    told = why_not(InvalidProxy("user:S3cret@host:8888", "scheme user isn't supported"))
    assert "S3cret" not in told
    assert "HTTPS_PROXY" in told
    assert "S3cret" not in why_not(ValueError("cannot use http://user:S3cret@host:8888"))


async def test_an_authority_of_ones_own_is_trusted_when_it_is_named(tmp_path: Path) -> None:
    tls = private_tls(tmp_path)

    async def greet(socket: ServerConnection) -> None:
        await socket.send("hello")

    async with serve(greet, "127.0.0.1", 0, ssl=tls.server) as server:
        url = f"wss://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        with contextlib.suppress(OSError):
            async with connect(url, ssl=TlsFiles().context()):
                pytest.fail("a certificate of nobody's was trusted")
        async with connect(
            url, ssl=TlsFiles.of_environment({"RINGFENCE_CA_FILE": str(tls.ca_file)}).context()
        ) as socket:
            assert await socket.recv() == "hello"


def test_a_file_that_holds_no_certificates_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for path in (tmp_path / "empty.pem", tmp_path / "absent.pem"):
        with pytest.raises(UsageMistake, match=str(path)):
            TlsFiles(str(path)).context()
