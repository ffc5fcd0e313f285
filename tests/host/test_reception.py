"""Who opens connections and asks for nothing holds none of them for long, and never the last."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import h11
import httpx
import pytest
from ringfence.host import Host
from ringfence.testing import RunHost
from ringfence.token_bucket import TokenBucket
from ringfence.web import idle_connections, server
from ringfence.web.idle_connections import Reception
from ringfence.web.pieces import MOST_PIECES, PiecesConnection
from ringfence.web.server import listen, serving, url_of
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from tests.host.plugins import MadePlugin
from tests.host.test_web import serve
from tests.waiting import in_time

HALF_A_HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
async def host(run_host: RunHost) -> Host:
    return await run_host(plugins=[MadePlugin("shop", init=serve)])


@contextlib.asynccontextmanager
async def crowd(host: str, port: int, size: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Connections that each have said half a head."""
    async with contextlib.AsyncExitStack() as stack:
        readers = []
        for _ in range(size):
            reader, writer = await asyncio.open_connection(host, port)
            stack.callback(writer.close)
            writer.write(HALF_A_HEAD)
            readers.append(reader)
        yield readers


async def ended(reader: asyncio.StreamReader) -> bool:
    with contextlib.suppress(ConnectionResetError):
        return await reader.read() == b""
    return True


async def test_the_newest_is_served_while_a_crowd_holds_all_there_is(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "most_connections", lambda: 20)
    with listen("127.0.0.1", 0) as listener:
        async with serving(host.app, listener):
            address: tuple[str, int] = listener.getsockname()[:2]
            async with crowd(address[0], address[1], 60) as readers:
                async with httpx.AsyncClient(base_url=url_of(listener)) as http:
                    assert (await http.get("/healthz")).status_code == 200
                async with in_time("the oldest of the crowd are dropped"):
                    assert await ended(readers[0])
                    assert await ended(readers[30])


@pytest.mark.slow
async def test_half_a_head_is_not_waited_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_connections, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(idle_connections, "BODY_SECONDS", 0.2)
    with listen("127.0.0.1", 0) as listener:
        async with serving(host.app, listener):
            address: tuple[str, int] = listener.getsockname()[:2]
            for beginning in (
                b"",
                HALF_A_HEAD,
                b"POST /api/shop/things/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
                # The second head on a connection that has served one.
                HALF_A_HEAD + b"\r\n" + HALF_A_HEAD,
            ):
                reader, writer = await asyncio.open_connection(*address)
                writer.write(beginning)
                async with in_time("the connection is dropped"):
                    with contextlib.suppress(ConnectionResetError):
                        await reader.read()
                writer.close()


async def test_a_websocket_outlives_the_deadlines_of_requests(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_connections, "HEAD_SECONDS", 0.1)
    monkeypatch.setattr(idle_connections, "BODY_SECONDS", 0.1)
    with listen("127.0.0.1", 0) as listener:
        async with serving(host.app, listener):
            url = url_of(listener).replace("http", "ws") + "/api/ws/shop"
            async with connect(url, compression=None) as socket:
                await asyncio.sleep(0.5)
                await socket.send("still here")
                async with in_time("the echo"):
                    assert await socket.recv() == "still here"


async def test_a_socket_that_is_busy_with_nothing_is_dropped(host: Host) -> None:
    ping = Frame(Opcode.PING, b"").serialize(mask=True, extensions=[])
    empty = Frame(Opcode.CONT, b"", fin=False).serialize(mask=True, extensions=[])
    with listen("127.0.0.1", 0) as listener:
        async with serving(host.app, listener):
            url = url_of(listener).replace("http", "ws") + "/api/ws/shop"
            for flood in (ping, empty):
                async with connect(url, compression=None, ping_interval=None) as socket:
                    if flood is empty:
                        socket.transport.write(
                            Frame(Opcode.TEXT, b"", fin=False).serialize(mask=True, extensions=[])
                        )
                    async with in_time("it is dropped"):
                        with contextlib.suppress(ConnectionClosed, ConnectionError):
                            while True:
                                socket.transport.write(flood * 100)
                                await socket.ping()
                                await asyncio.sleep(0)
                        await socket.wait_closed()


async def test_a_body_in_crumbs_is_dropped_before_it_keeps_others_waiting(host: Host) -> None:
    head = b"POST /api/shop/things/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with listen("127.0.0.1", 0) as listener:
        async with serving(host.app, listener):
            address: tuple[str, int] = listener.getsockname()[:2]
            reader, writer = await asyncio.open_connection(*address)
            writer.write(head + b"1\r\na\r\n" * 20_000)
            async with in_time("the connection is dropped"):
                assert await ended(reader)
            writer.close()
            # Chunks that are worth their cost, and small ones that come one by one, are taken.
            reader, writer = await asyncio.open_connection(*address)
            writer.write(head + (b"400\r\n" + b"a" * 1024 + b"\r\n") * 3000 + b"1\r\na\r\n" * 500)
            writer.write(b"0\r\n\r\n")
            async with in_time("the answer"):
                assert (await reader.readline()).startswith(b"HTTP/1.1 ")
            writer.close()


def test_crumbs_that_come_one_by_one_are_no_flood() -> None:
    connection = PiecesConnection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert isinstance(connection.next_event(), h11.Request)
    for _ in range(3 * MOST_PIECES):
        connection.read_begins()
        connection.receive_data(b"1\r\na\r\n")
        while connection.next_event() is not h11.NEED_DATA:
            pass
    assert not connection.too_many


async def test_a_request_for_a_websocket_that_is_not_understood_is_answered_and_dropped(host: Host) -> None:
    head = (
        b"GET /api/ws/shop HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    )
    with listen("127.0.0.1", 0) as listener:
        async with serving(host.app, listener):
            address: tuple[str, int] = listener.getsockname()[:2]
            for more in (b"X: " + b"a" * 9000 + b"\r\n", b"".join(b"X%d: a\r\n" % n for n in range(200))):
                reader, writer = await asyncio.open_connection(*address)
                writer.write(head + more + b"\r\n")
                async with in_time("it is answered, and dropped"):
                    assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
                writer.close()


async def test_what_is_no_text_is_no_line_in_the_log(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    with listen("127.0.0.1", 0) as listener:
        async with serving(host.app, listener):
            url = url_of(listener).replace("http", "ws") + "/api/ws/shop"
            async with connect(url, compression=None) as socket:
                await socket.send(b"\xff\xfe", text=True)
                async with in_time("it is closed"):
                    with pytest.raises(ConnectionClosed) as closed:
                        await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1007
    assert "Invalid UTF-8" not in caplog.text


async def test_whole_messages_and_large_fragments_are_left_to_the_application(host: Host) -> None:
    with listen("127.0.0.1", 0) as listener:
        async with serving(host.app, listener):
            url = url_of(listener).replace("http", "ws") + "/api/ws/shop"
            async with connect(url, compression=None) as socket:
                await socket.send("x" * 4096 for _ in range(240))
                async with in_time("the echo"):
                    assert len(await socket.recv()) == 240 * 4096


def test_the_one_that_has_waited_longest_makes_room() -> None:
    room = Reception(2)
    assert room.arrive("a", others=0) is None
    assert room.arrive("b", others=1) is None
    assert room.arrive("c", others=2) == "a"
    room.leave("b")
    assert room.arrive("d", others=2) == "c"
    room.leave("d")
    assert room.arrive("e", others=2) == "e", "those who have asked for something stay"
    assert len(room) == 0


def test_a_bucket_gives_what_is_in_it_and_fills_again() -> None:
    bucket = TokenBucket(2, 1.0, 0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert bucket.wait_seconds(0.0) == 2.0
    assert not bucket.take(1.0)
    assert bucket.take(3.5)
    assert TokenBucket(2, 1.0, 0.0).wait_seconds(9.0) == 0.0
