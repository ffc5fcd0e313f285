"""Writing to many peers at once: what is written past the transport arrives whole, in order, and at nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from fastapi import FastAPI
from ringfence.web import TextMessage, direct_writes
from ringfence.web.server import listen, serving
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect

from tests.waiting import in_time

Endpoint = Callable[[WebSocket], Awaitable[None]]
LARGE = "x" * 200_000
MANY = 1000
"""Far more messages of that size than two sockets' buffers take."""


@asynccontextmanager
async def served(endpoint: Endpoint) -> AsyncIterator[str]:
    """The endpoint on a real socket, and its URL."""
    app = FastAPI()
    app.state.websockets = {"/ws": endpoint}
    with listen("127.0.0.1", 0) as listener:
        async with serving(app, listener):
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}/ws"


@asynccontextmanager
async def peer(url: str) -> AsyncIterator[ClientConnection]:
    async with connect(url, compression=None, max_size=None, max_queue=1, ping_interval=None) as client:
        yield client


async def test_what_a_slow_peer_could_not_take_arrives_later_whole_and_in_order() -> None:
    refused = asyncio.Event()
    taken: list[int] = []

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        direct = direct_writes(websocket)
        assert direct is not None
        number = 0
        while number < MANY and direct.write_now(TextMessage(f"{number} {LARGE}")):
            taken.append(number)
            number += 1
        refused.set()
        # The ordinary way waits for the peer, and the direct one may go on where it ends.
        await websocket.send_text(f"{number} {LARGE}")
        while not direct.write_now(TextMessage(f"{number + 1} {LARGE}")):
            await asyncio.sleep(0.01)
        await websocket.close()

    async with in_time("all that follows"), served(endpoint) as url, peer(url) as client:
        await refused.wait()
        received = [str(message) async for message in client]
    assert 1 < len(taken) < MANY
    assert [text.partition(" ")[0] for text in received] == [str(n) for n in range(len(taken) + 2)]
    assert {text.partition(" ")[2] for text in received} == {LARGE}


@pytest.mark.parametrize("how", ["abort", "the peer goes"])
async def test_nothing_is_written_where_a_connection_was(how: str) -> None:
    """A descriptor's number is soon somebody else's; who holds the old connection must not reach them with it."""
    arrived: asyncio.Queue[WebSocket] = asyncio.Queue()

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await arrived.put(websocket)
        async for _ in websocket.iter_text():
            pass

    async with in_time("all that follows"), served(endpoint) as url, AsyncExitStack() as others:
        async with peer(url) as first:
            old = direct_writes(await arrived.get())
            assert old is not None
            assert old.write_now(TextMessage("to the first"))
            assert await first.recv() == "to the first"
            if how == "abort":
                old.abort()
        while old.write_now(TextMessage("into the void")):
            await asyncio.sleep(0.01)
        for _ in range(20):
            client = await others.enter_async_context(peer(url))
            new = direct_writes(await arrived.get())
            assert new is not None
            assert not old.write_now(TextMessage("for nobody"))
            assert new.write_now(TextMessage("to another"))
            assert await client.recv() == "to another"
