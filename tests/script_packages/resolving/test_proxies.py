"""Where this machine's tools are configured for a proxy, registries are asked through it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from ringfence_script_packages.packages.errors import PackagesError
from ringfence_script_packages.packages.resolving.client import RegistryClient
from ringfence_script_packages.packages.resolving.machine import registries_of
from ringfence_script_packages.packages.resolving.registries import Registries, RegistrySettings

from tests.certificates import private_tls
from tests.script_packages.resolving.registry import Answer, Registry

NAME = "packages.example"


@asynccontextmanager
async def proxy(to: int) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A proxy that takes everybody to this port of the loopback; its own port, and the requests that it got."""
    asked: list[bytes] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(piece)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        there = await asyncio.open_connection("127.0.0.1", to)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


async def asked_of(registries: Registries, *urls: str) -> list[bytes]:
    """What is answered at these addresses."""
    client = RegistryClient(registries)
    try:
        return [(await client.page(url, accept="*/*"))[2] for url in urls]
    finally:
        await client.aclose()


def of_pip(monkeypatch: pytest.MonkeyPatch, directory: Path, proxy: str) -> None:
    monkeypatch.setenv("PIP_PROXY", proxy)


def of_npm(monkeypatch: pytest.MonkeyPatch, directory: Path, proxy: str) -> None:
    (directory / "npmrc").write_text(f"https-proxy={proxy}\nnoproxy=.direct.example, other.example\n")


@pytest.mark.usefixtures("no_configuration")
@pytest.mark.parametrize("configured", [of_pip, of_npm])
async def test_a_proxy_of_pip_or_npm_is_asked_for_all_but_this_machine(
    configured: Callable[[pytest.MonkeyPatch, Path, str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    registry: Registry,
) -> None:
    tls = private_tls(tmp_path, NAME)
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.ca_file))
    registry.answers["/near"] = Answer(b"near")
    with Registry(tls=tls.server) as far:
        far.answers["/far"] = Answer(b"far")
        async with proxy(int(far.url.rpartition(":")[2])) as (port, asked):
            configured(monkeypatch, tmp_path, f"http://me:sesame@127.0.0.1:{port}")
            monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{registry.url}/simple")
            found = registries_of(RegistrySettings())
            assert "sesame" not in repr(found)
            assert await asked_of(found, f"https://{NAME}/far", f"{registry.url}/near") == [b"far", b"near"]
    [request] = asked
    assert request.startswith(f"CONNECT {NAME}:443 ".encode())
    assert base64.b64encode(b"me:sesame") in request


@pytest.mark.usefixtures("no_configuration")
async def test_who_npm_asks_without_its_proxy_is_asked_without_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    of_npm(monkeypatch, tmp_path, "http://127.0.0.1:9")
    found = registries_of(RegistrySettings())
    assert found.direct == ("direct.example", "other.example")
    client = RegistryClient(found)
    ways = {
        host: client._http._transport_for_url(httpx.URL(f"https://{host}/"))
        for host in ("far.example", "direct.example", "a.direct.example", "other.example", "127.0.0.1")
    }
    await client.aclose()
    through = ways.pop("far.example")
    assert set(ways.values()) == {client._http._transport}
    assert through is not client._http._transport


@pytest.mark.usefixtures("no_configuration")
def test_a_proxy_that_is_none_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_PROXY", "socks5://me:sesame@proxy.example")
    with pytest.raises(PackagesError, match="the proxy in the configuration of pip") as caught:
        registries_of(RegistrySettings())
    assert "sesame" not in str(caught.value)
