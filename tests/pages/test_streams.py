"""Streams of a plugin's that look at nothing end all the same: with the session, the right, and the instance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import Response
from fastapi.responses import StreamingResponse
from ringfence import PluginInfo, Registry, hookimpl
from ringfence.host import Host
from ringfence.pages import Data, Pages, View, streams
from ringfence.testing import RunHost, client, served

READ = "endless.thing.read"


class EndlessPlugin:
    """A plugin that sends words for as long as anybody takes them."""

    info = PluginInfo(id="endless", version="1.0", optional=True)

    def __init__(self) -> None:
        self.ended = 0

    @hookimpl
    def register(self, registry: Registry) -> None:
        self.read = registry.access_rule("thing", "read", "See things")

    @hookimpl
    def pages(self) -> Pages:
        return Pages(
            package="tests.pages.shown",
            data=[
                Data(path="/endless/talking", answer=self.talking, rule=self.read),
                Data(path="/endless/silent", answer=self.silent, rule=self.read),
            ],
        )

    async def talking(self, _: View) -> Response:
        async def words() -> AsyncIterator[str]:
            try:
                while True:
                    yield "data: word\n\n"
                    await asyncio.sleep(0.01)
            finally:
                self.ended += 1

        return StreamingResponse(words(), media_type="text/event-stream")

    async def silent(self, _: View) -> Response:
        async def words() -> AsyncIterator[str]:
            try:
                yield "data: word\n\n"
                await asyncio.Event().wait()
            finally:
                self.ended += 1

        return StreamingResponse(words(), media_type="text/event-stream")


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> EndlessPlugin:
    monkeypatch.setattr(streams, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(streams, "FRESH_SECONDS", 0.05)
    return EndlessPlugin()


@pytest.fixture
async def host(run_host: RunHost, plugin: EndlessPlugin) -> Host:
    return await run_host(plugins=[plugin])


@asynccontextmanager
async def opened(url: str, token: str, path: str) -> AsyncIterator[AsyncIterator[str]]:
    """The lines of a stream, the first of which has come."""
    async with httpx.AsyncClient(base_url=url, headers={"origin": url}, timeout=30) as http:
        await http.post("/sign-in", data={"token": token})
        async with http.stream("GET", path) as answer:
            assert answer.status_code == 200
            lines = answer.aiter_lines()
            assert await anext(lines) == "data: word"
            yield lines


async def rest(lines: AsyncIterator[str]) -> None:
    """Return when the stream has ended."""
    async for _ in lines:
        pass


@pytest.mark.parametrize("path", ["/endless/talking", "/endless/silent"])
async def test_a_stream_ends_with_its_session_and_with_its_right(
    host: Host, plugin: EndlessPlugin, path: str
) -> None:
    async with client(host) as admin, served(host) as url:
        for number, end in enumerate(("revoke", "narrow")):
            body = {"name": f"t{number}", "rules": [READ, "host.plugin.read"]}
            token = (await admin.post("/api/host/tokens", json=body)).json()["token"]
            async with asyncio.timeout(30), opened(url, token, path) as lines:
                if end == "revoke":
                    await admin.delete(f"/api/host/tokens/t{number}")
                else:
                    kept = {"rules": ["host.plugin.read"]}
                    gone = await admin.patch(f"/api/host/tokens/t{number}", json=kept)
                    assert gone.is_success, gone.text
                await rest(lines)
    assert plugin.ended == 2


@pytest.mark.parametrize("path", ["/endless/talking", "/endless/silent"])
async def test_an_instance_with_an_open_stream_stops_at_once(
    host: Host, plugin: EndlessPlugin, path: str
) -> None:
    token = host.data_dir.admin_token_path.read_text().strip()
    async with served(host) as url, opened(url, token, path) as lines:
        host.runtime.drain.ask()
        async with asyncio.timeout(1):
            await rest(lines)
    assert plugin.ended == 1
    assert host.app.state.streams.open == 0
