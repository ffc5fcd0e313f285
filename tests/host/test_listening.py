"""Where a host listens besides TCP, and whom it takes for the one who asks."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Request
from pydantic import ValidationError
from ringfence import PluginContext
from ringfence.host import Host
from ringfence.http.guard import peer_of
from ringfence.settings import HostSettings
from ringfence.testing import RunHost
from ringfence.web.server import ListenError, listen, listening_at, serving, url_of

from tests.host.plugins import MadePlugin


async def serve(context: PluginContext) -> None:
    router = APIRouter()

    @router.get("/who")
    async def who(request: Request) -> str:
        return peer_of(request)

    context.web.router(router)


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host(plugins=[MadePlugin("who", init=serve)])


@asynccontextmanager
async def asked_over_tcp(host: Host, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    with listen("127.0.0.1", 0) as listener:
        async with (
            serving(host.app, listener, **options),
            httpx.AsyncClient(base_url=url_of(listener)) as http,
        ):
            yield http


async def test_a_unix_socket_answers_and_is_gone_with_its_host(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    with listening_at(path) as listener:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with (
            serving(host.app, listener),
            httpx.AsyncClient(transport=transport, base_url="http://local") as http,
        ):
            assert (await http.get("/healthz")).status_code == 200
            forged = await http.get("/api/who/who", headers={"X-Forwarded-For": "192.0.2.7"})
            assert forged.json() == "a local socket"
    assert not path.exists()


def test_a_socket_that_a_killed_host_left_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    with listening_at(path):
        path.rename(tmp_path / "left")
    (tmp_path / "left").rename(path)
    with listening_at(path):
        with pytest.raises(ListenError, match="RINGFENCE_SOCKET"), listening_at(path):
            pass
        assert path.exists(), "what another host listens on is left alone"


async def test_only_a_trusted_proxy_is_believed_whom_it_speaks_for(host: Host) -> None:
    forwarded = {"X-Forwarded-For": "192.0.2.7"}
    async with asked_over_tcp(host, trusted_proxies="127.0.0.0/8") as http:
        assert (await http.get("/api/who/who", headers=forwarded)).json() == "192.0.2.7"
    async with asked_over_tcp(host, trusted_proxies="10.0.0.0/8") as http:
        assert (await http.get("/api/who/who", headers=forwarded)).json() == "127.0.0.1"


@pytest.mark.parametrize(
    "wrong",
    [{"trusted_proxies": "everybody"}, {"trusted_proxies": "10.0.0.1/8"}, {"socket": "/" + "x" * 200}],
)
def test_a_setting_that_cannot_work_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        HostSettings.model_validate(wrong)
