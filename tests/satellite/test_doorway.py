"""Sockets that never authenticate: there is room for so many, and they keep no satellite out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio
from ringfence.testing import PluginFactory, TestPostgres
from ringfence_satellite.protocol import AUTHENTICATE_SECONDS, CheckResult, CloseCode
from ringfence_satellite.server.websocket import endpoint, visit
from ringfence_satellite.server.websocket.unauthenticated import Doorway
from starlette.websockets import WebSocket

from tests.satellite.conftest import shared_instance
from tests.satellite.instances import Instance
from tests.shared_hosts import SHARED
from tests.waiting import in_time, until

PLACES = 3
UPGRADE = (
    b"GET /api/ws/satellite HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(
    postgres: TestPostgres, tmp_path_factory: pytest.TempPathFactory, plugins_under_test: PluginFactory
) -> AsyncIterator[Instance]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RINGFENCE_SATELLITE_MAX_UNAUTHENTICATED", str(PLACES))
        async with shared_instance(postgres, tmp_path_factory, plugins_under_test) as one:
            yield one


@pytest_asyncio.fixture(loop_scope="module")
async def instance(emptied: Instance) -> Instance:
    await until_at_the_door(emptied, 0)
    return emptied


def at_the_door(instance: Instance) -> int:
    assert instance.plugin._endpoint is not None
    return len(instance.plugin._endpoint._doorway)


async def until_at_the_door(instance: Instance, count: int) -> None:
    await until(lambda: at_the_door(instance) == count)


@SHARED
async def test_the_silent_keep_no_satellite_out_and_the_longest_silent_goes(instance: Instance) -> None:
    satellite = await instance.register()
    async with AsyncExitStack() as stack:
        silent = []
        for n in range(PLACES):
            silent.append(await stack.enter_async_context(instance.peer()))
            await until_at_the_door(instance, n + 1)
        async with instance.connected(satellite) as peer:
            code, reason = await silent[0].closed()
            assert code == CloseCode.TRY_LATER
            assert "have not authenticated" in reason
            await peer.applied(0)
            await instance.until(satellite, lambda one: one["appliedRevision"] == 0)
            await until_at_the_door(instance, PLACES - 1)
            assert all(one.socket.close_code is None for one in silent[1:])


@SHARED
async def test_never_more_sockets_are_held_than_there_are_places(instance: Instance) -> None:
    """Peers that do not even answer that they are closed; not one of them waits for its time to be up."""
    async with AsyncExitStack() as stack:
        sockets = []
        for _ in range(4 * PLACES):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(instance.url.rpartition(":")[2]))
            stack.callback(writer.transport.abort)
            writer.write(UPGRADE)
            await reader.readuntil(b"\r\n\r\n")
            sockets.append((reader, writer))
        began = asyncio.get_running_loop().time()
        ended = await asyncio.gather(*(reader.read() for reader, _ in sockets[: 3 * PLACES]))
        assert asyncio.get_running_loop().time() - began < AUTHENTICATE_SECONDS / 2
        # A close frame, and in it the code.
        assert {(said[0], int.from_bytes(said[2:4], "big")) for said in ended} == {
            (0x88, CloseCode.TRY_LATER)
        }
        assert at_the_door(instance) == PLACES


@SHARED
async def test_satellites_that_have_been_let_in_take_no_place(instance: Instance) -> None:
    fleet = [await instance.register(f"s{n}") for n in range(2 * PLACES)]
    async with AsyncExitStack() as stack:
        for satellite in fleet:
            await stack.enter_async_context(instance.connected(satellite))
        await until_at_the_door(instance, 0)
        assert len(instance.plugin._relay.admitted()) == len(fleet)


@SHARED
async def test_where_all_have_spoken_the_newest_is_to_try_later(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = [await instance.register(f"s{n}") for n in range(PLACES)]
    go_on = asyncio.Event()
    credentials = instance.plugin._credentials
    load = credentials._load

    async def slow_load(ids: Any) -> Any:
        await go_on.wait()
        return await load(ids)

    monkeypatch.setattr(credentials, "_load", slow_load)
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(instance.peer(satellite)) for satellite in fleet]
        await until(lambda: len(instance.plugin._relay._claims) >= PLACES)
        async with instance.peer() as late:
            assert (await late.closed())[0] == CloseCode.TRY_LATER
        go_on.set()
        for peer in peers:
            await peer.hear("authenticated")


@SHARED
async def test_who_is_refused_gives_the_place_back(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit, "CLOSE_SECONDS", 0.2)
    async with AsyncExitStack() as stack:
        for _ in range(PLACES):
            peer = await stack.enter_async_context(instance.peer())
            await peer.say("nonsense")
            assert (await peer.closed())[0] == CloseCode.AUTH_FAILED
        await until_at_the_door(instance, 0)


HEAD = b"\x81\xff" + (1024 * 1024).to_bytes(8, "big") + b"mask"
"""The head of a frame that is to be of 1 MiB."""


@SHARED
async def test_before_a_satellite_is_let_in_no_large_frame_is_read(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its head is enough: nothing of the rest is waited for."""
    monkeypatch.setattr(endpoint, "AUTHENTICATE_SECONDS", 3600.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(instance.url.rpartition(":")[2]))
    writer.write(UPGRADE)
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HEAD)
    async with in_time("the connection is closed"):
        said = await reader.read()
    writer.transport.abort()
    assert (said[0], int.from_bytes(said[2:4], "big")) == (0x88, CloseCode.TOO_LARGE)


@SHARED
async def test_nor_is_one_that_comes_before_the_socket_is_accepted(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert instance.plugin._endpoint is not None
    serve = instance.plugin._endpoint.serve
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(websocket: WebSocket) -> None:
        asked.set()
        await go_on.wait()
        await serve(websocket)

    monkeypatch.setattr(instance.plugin._endpoint, "serve", slow)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(instance.url.rpartition(":")[2]))
    writer.write(UPGRADE)
    await asked.wait()
    writer.write(HEAD)
    async with in_time("the connection is closed"):
        await reader.read()
    go_on.set()
    writer.transport.abort()


@SHARED
async def test_a_satellite_that_is_in_may_send_large_frames(instance: Instance) -> None:
    satellite = await instance.register()
    async with instance.connected(satellite) as peer:
        large = CheckResult(
            config_id="c",
            system_id="s",
            status="healthy",
            executed_at="now",
            result_id="r",
            result={"stdout": "x" * 1024 * 1024},
        )
        await peer.say(large)
        assert await peer.hear("result_ack") == {"type": "result_ack", "resultId": "r", "accepted": False}


def test_who_has_no_place_cannot_give_one_back() -> None:
    doorway: Doorway[str] = Doorway(2)
    assert [doorway.enter(one) for one in "ab"] == [None, None]
    doorway.spoke("a")
    assert doorway.enter("c") == "b"
    doorway.spoke("c")
    assert doorway.enter("d") == "d"
    for one in "bdd":
        doorway.spoke(one)
        doorway.leave(one)
    assert len(doorway) == 2
    doorway.leave("a")
    assert doorway.enter("e") is None
