"""The web side of the host: one shape for every error, and an honest word on health."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import websockets
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel
from ringfence import PluginContext
from ringfence.host import Host
from ringfence.testing import RunHost, client, served
from ringfence.web import Problem
from ringfence.web.body_limit import MAX_BODY_BYTES, MAX_STRANGERS_BYTES
from ringfence.web.server import listen, serving, url_of
from starlette.websockets import WebSocket

from tests.host.plugins import MadePlugin


class Thing(BaseModel):
    name: str
    size: int


def routes() -> APIRouter:
    router = APIRouter()

    @router.post("/things/{number}")
    async def make(number: int, thing: Thing) -> Thing:
        return thing

    @router.get("/broken")
    async def broken() -> None:
        raise ZeroDivisionError("the password is swordfish")

    @router.get("/busy")
    async def busy() -> None:
        raise Problem(409, "Busy", detail="come back later", headers={"Retry-After": "7"}, holder="me")

    @router.get("/gone")
    async def gone() -> None:
        raise Problem(410)

    @router.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "short and stout", headers={"X-Spout": "yes"})

    return router


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


async def serve(context: PluginContext) -> None:
    context.web.router(routes())
    context.web.websocket("", echo)
    context.web.websocket("/more", echo)


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host(plugins=[MadePlugin("shop", init=serve)])


@pytest.fixture
async def http(host: Host) -> AsyncIterator[httpx.AsyncClient]:
    # As over a socket: an exception in the application is an answer, and nothing that reaches the caller.
    transport = httpx.ASGITransport(app=host.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = dict(answer.json())
    assert body["status"] == status
    assert isinstance(body["title"], str)
    assert isinstance(body["detail"], str)
    assert body["type"] == "about:blank"
    return body


@pytest.mark.parametrize("path", ["/nowhere", "/api/nowhere", "/api/shop/nowhere"])
async def test_a_path_that_is_not_there_is_a_404(http: httpx.AsyncClient, path: str) -> None:
    assert problem(await http.get(path), 404)["title"] == "Not Found"


async def test_a_method_that_is_not_there_is_a_405_that_names_those_that_are(http: httpx.AsyncClient) -> None:
    answer = await http.put("/api/shop/things/1", json={})
    problem(answer, 405)
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("number", ["x", "1.5", "<b>", "y" * 200])
async def test_what_is_no_id_in_a_path_is_told_in_plain_words(http: httpx.AsyncClient, number: str) -> None:
    body = problem(await http.post(f"/api/shop/things/{number}", json={"name": "a", "size": 1}), 422)
    assert body["title"] == "Not an id"
    assert body["detail"].startswith(f"'{number[:100]}' is not a number that lists show")


async def test_a_request_that_does_not_fit_is_a_422_that_points_at_each_fault(
    http: httpx.AsyncClient,
) -> None:
    body = problem(await http.post("/api/shop/things/x", json={"size": "large"}), 422)
    assert {one["pointer"] for one in body["errors"]} == {"/path/number", "/body/name", "/body/size"}
    assert "/body/size: " in body["detail"]


async def test_a_body_that_is_not_json_is_a_422(http: httpx.AsyncClient) -> None:
    problem(
        await http.post("/api/shop/things/1", content=b"{", headers={"content-type": "application/json"}), 422
    )


async def test_more_than_a_request_may_have_is_refused_whether_it_says_so_or_not(host: Host) -> None:
    async def more_and_more() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 1024**2 + 1):
            yield b" " * 1024**2

    token = {"Authorization": f"Bearer {host.data_dir.admin_token_path.read_text().strip()}"}
    async with served(host) as url, httpx.AsyncClient(base_url=url, headers=token) as known:
        at_once = await known.post("/api/shop/things/1", content=b" " * (MAX_BODY_BYTES + 1))
        problem(at_once, 413)
        problem(await known.post("/api/shop/things/1", content=more_and_more()), 413)
        as_much_as_may_be = await known.post("/api/shop/things/1", content=b" " * MAX_BODY_BYTES)
        problem(as_much_as_may_be, 422)


async def test_what_strangers_send_is_not_taken_apart_unless_it_is_small(host: Host) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield b"[]," * (MAX_STRANGERS_BYTES // 16)

    async with served(host) as url, httpx.AsyncClient(base_url=url) as stranger:
        for content in (b" " * (MAX_STRANGERS_BYTES + 1), pieces()):
            refused = await stranger.post("/api/shop/things/1", content=content)
            problem(refused, 401)
            assert "WWW-Authenticate" in refused.headers
        problem(await stranger.post("/api/shop/things/1", content=b" " * MAX_STRANGERS_BYTES), 422)


async def test_a_failure_is_a_500_that_tells_nothing_of_the_inside(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/shop/broken")
    problem(answer, 500)
    assert "swordfish" not in answer.text
    assert "ZeroDivisionError" not in answer.text


async def test_a_plugins_own_problem_keeps_its_members_and_headers(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/shop/busy")
    body = problem(answer, 409)
    assert (body["title"], body["detail"], body["holder"]) == ("Busy", "come back later", "me")
    gone = await http.get("/api/shop/gone")
    assert gone.json() == {
        "type": "about:blank",
        "title": "Gone",
        "status": 410,
        "requestId": gone.headers["x-request-id"],
    }
    assert answer.headers["retry-after"] == "7"
    answer = await http.get("/api/shop/teapot")
    assert problem(answer, 418)["detail"] == "short and stout"
    assert answer.headers["x-spout"] == "yes"


async def test_websockets_are_served_below_the_plugins_id(host: Host) -> None:
    with listen("127.0.0.1", 0) as listener:
        async with serving(host.app, listener):
            for path in ("/api/ws/shop", "/api/ws/shop/more"):
                async with websockets.connect(url_of(listener).replace("http", "ws", 1) + path) as socket:
                    await socket.send("hello")
                    assert await socket.recv() == "hello"


async def test_healthz_answers_for_the_process_and_readyz_for_its_work(
    host: Host, http: httpx.AsyncClient
) -> None:
    healthy = await http.get("/healthz")
    assert healthy.json() == {"status": "ok", "instance": str(host.instance_id)}
    ready = await http.get("/readyz")
    body = ready.json()
    assert body["database"] == "ok"
    # The tailer may be about to read for the first time; the answer says which, and the status agrees.
    assert ready.status_code == (200 if body["ready"] else 503)


async def test_without_its_database_an_instance_is_alive_and_not_ready(
    host: Host, http: httpx.AsyncClient
) -> None:
    await host.database.close()
    host.runtime.database.sessions.configure(bind=None)
    ready = await http.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["database"].startswith("out of reach: ")
    assert (await http.get("/healthz")).status_code == 200


async def test_the_api_describes_itself(http: httpx.AsyncClient) -> None:
    described = (await http.get("/api/openapi.json")).json()
    assert "/api/shop/things/{number}" in described["paths"]


async def test_the_plugins_are_listed_with_what_they_declare(host: Host) -> None:
    async with client(host) as admin:
        [shop] = (await admin.get("/api/host/plugins")).json()["plugins"]
    assert (shop["id"], shop["version"], shop["phase"], shop["error"]) == ("shop", "1.0", "ready", None)
    assert "POST /api/shop/things/{number}" in shop["routes"]
    assert "WS /api/ws/shop/more" in shop["routes"]
