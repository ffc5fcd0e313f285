"""HEAD and OPTIONS, with which load balancers ask whether a host lives."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from ringfence import PluginContext
from ringfence.host import Host
from ringfence.testing import RunHost, served

from tests.host.plugins import MadePlugin
from tests.host.test_web import routes
from tests.waiting import until_it


async def serve(context: PluginContext) -> None:
    context.web.router(routes())


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host(plugins=[MadePlugin("shop", init=serve)])


async def said(url: str, head: str) -> str:
    """All that the server says to a request with this head, over a socket of the test's own."""
    address = httpx.URL(url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        return (await asyncio.wait_for(reader.read(), 20)).decode()
    finally:
        writer.close()


async def _is_ready(http: httpx.AsyncClient) -> bool:
    return (await http.get("/readyz")).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/api/docs", "/api/openapi.json"])
async def test_head_answers_what_get_does_without_its_body(host: Host, path: str) -> None:
    async with served(host) as url, httpx.AsyncClient(base_url=url) as http:
        await until_it(lambda: _is_ready(http), "the host is ready")
        whole, head = await http.get(path), await http.head(path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]


async def test_head_says_no_more_than_its_head_over_a_socket(host: Host) -> None:
    async with served(host) as url:
        answer = await said(url, "HEAD /healthz HTTP/1.1\nHost: x\nConnection: close")
    assert answer.startswith("HTTP/1.1 200")
    assert answer.endswith("\r\n\r\n")


async def test_options_name_what_a_resource_takes(host: Host) -> None:
    async with served(host) as url, httpx.AsyncClient(base_url=url) as http:
        health, things = await http.options("/healthz"), await http.options("/api/shop/things/3")
        nothing = await http.options("/api/shop/nothing")
    assert (health.status_code, health.headers["allow"]) == (204, "HEAD, GET, OPTIONS")
    assert (things.status_code, things.headers["allow"]) == (204, "POST, OPTIONS")
    assert nothing.status_code == 404


@pytest.mark.parametrize("target", ["/", "*"])
async def test_a_load_balancers_shortest_question_is_answered(host: Host, target: str) -> None:
    # What HAProxy's httpchk asks where nothing else is configured.
    async with served(host) as url:
        answer = await said(url, f"OPTIONS {target} HTTP/1.0")
    assert answer.startswith("HTTP/1.1 204"), answer


async def test_a_method_that_a_resource_does_not_take_is_still_refused(host: Host) -> None:
    async with served(host) as url, httpx.AsyncClient(base_url=url) as http:
        assert (await http.head("/api/shop/things/3")).status_code == 405
        assert (await http.delete("/healthz")).status_code == 405
