"""WebSockets through which many peers are told the same thing.

Serialise once, write at once, never wait for a slow peer.

An ASGI `send` serialises anew for each peer and waits while that peer does not read. An endpoint that holds
thousands of connections needs neither, so this server protocol offers an ASGI extension with which it
writes bytes that are already a WebSocket frame, or learns at once that the peer is not keeping up.
Endpoints must work without it too, through `send`: other ASGI servers do not have it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request

from ringfence.acting import ACTING
from ringfence.token_bucket import TokenBucket

EXTENSION = "ringfence.websocket.direct"
SMALL_FRAME_BYTES = 1024
SMALL_FRAME_BURST, SMALL_FRAMES_PER_SECOND = 200.0, 20.0
"""How many pings, pongs and small fragments of messages a peer may send: they are handled here, so that the application
cannot see to it. Whole messages are the application's to count."""
_WHOLE = (Opcode.TEXT, Opcode.BINARY)
_CARRIERS = (*_WHOLE, Opcode.CONT)
READ_AHEAD_MESSAGES = 8
READ_AHEAD_BYTES = 64 * 1024
"""How much is read from a peer before the application takes it: this many messages, none of them larger
than this.
"""


@dataclass(frozen=True, slots=True)
class TextMessage:
    """One text message, ready to be sent any number of times: its text, and the frame that it is on the wire.

    Frames from a server are not masked (RFC 6455, 5.1), so that the same bytes are right for every peer.
    Only for connections without extensions such as compression, which is how this host serves them.
    """

    text: str
    frame: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        frame = Frame(Opcode.TEXT, self.text.encode()).serialize(mask=False, extensions=[])
        object.__setattr__(self, "frame", frame)


class DirectWrites(Protocol):
    """What the extension offers. All calls return at once."""

    def write_now(self, message: TextMessage) -> bool:
        """Hand a message to the peer's socket.

        False, and nothing is done, if the peer does not keep up or is gone.
        """

    def abort(self) -> None:
        """Drop the connection and what waits to be written.

        It is the only way to be rid of a peer that reads nothing.
        """

    def limit_messages(self, most: int) -> None:
        """Take no message of more than `most` bytes from the peer, from the next one on.

        A peer that sends one is closed with 1009 before the message is held in memory. Called right after `accept`,
        this goes for the first message too.
        """


def direct_writes(websocket: WebSocket) -> DirectWrites | None:
    """The extension of this connection, or None when its server has none."""
    found: DirectWrites | None = websocket.scope.get("extensions", {}).get(EXTENSION)
    return found


def _is_text(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class WebSocketDispatcher:
    """An ASGI application that takes a WebSocket straight to its endpoint, and leaves the rest to `app`.

    `endpoints` are by exact path. What a web framework wraps around each request (exit stacks, error pages,
    limits of bodies) is of no use to a connection that stays for days, and would be held for as long.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Callable[[WebSocket], Awaitable[None]]]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or connection."""
        endpoint = self._endpoints.get(scope["path"]) if scope["type"] == "websocket" else None
        if endpoint is None:
            await self._app(scope, receive, send)
        else:
            # /api/ws/<plugin>…; each connection is a task of its own.
            plugin = "".join(scope["path"].split("/")[3:4])
            ACTING.set({"plugin": plugin, "route": f"WS {scope['path']}"})
            await endpoint(WebSocket(scope, receive, send))


class _Inbox:
    """As much of `asyncio.Queue` as one reader needs, at a tenth of its memory while nobody waits in line."""

    __slots__ = ("_messages", "_waiter")

    def __init__(self) -> None:
        self._messages: list[ASGIReceiveEvent] = []
        self._waiter: asyncio.Future[None] | None = None

    def put_nowait(self, message: ASGIReceiveEvent) -> None:
        self._messages.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> ASGIReceiveEvent:
        while not self._messages:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._messages.pop(0)

    def qsize(self) -> int:
        return len(self._messages)

    def empty(self) -> bool:
        return not self._messages


_WRITABLE = asyncio.Event()
"""Shared by all connections that keep up: thousands of their own would have to be looked at for each change."""
_WRITABLE.set()


_TOO_MUCH = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class DirectWebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol, with the extension.

    A connection that says little takes less memory.

    It stands on what uvicorn and websockets do not promise to keep, so pyproject.toml bounds both from above.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.queue = _Inbox()  # type: ignore[assignment]
        self.writable = _WRITABLE
        self._descriptor = -1
        self._small_frames = TokenBucket(SMALL_FRAME_BURST, SMALL_FRAMES_PER_SECOND, self.loop.time())
        # What a peer sends before it was accepted, which it may not (RFC 6455, 4.1), is read before anybody could say
        # how much to take.
        self.conn.max_message_size = min(READ_AHEAD_BYTES, self.config.ws_max_size)

    async def send(self, message: ASGISendEvent) -> None:
        """Send one event of the application, as uvicorn does."""
        await super().send(message)
        if message["type"] == "websocket.accept":
            # What the handshake was negotiated from is not needed any more, and is most of what a
            # connection holds.
            self.request = self.response = None  # type: ignore[assignment]
            if self.transport.get_extra_info("sslcontext") is None and not self.conn.extensions:
                self._descriptor = self.transport.get_extra_info("socket").fileno()
            self.conn.max_message_size = self.config.ws_max_size

    def data_received(self, data: bytes) -> None:
        """Read. A head that websockets does not take (a line of 8 KiB, 128 lines) is never a request to it: answer."""
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            self.transport.write(_TOO_MUCH)
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        """Offer the extension to the application, which starts after this."""
        super().handle_connect(event)
        if not self.handshake_complete:
            # A peer keeps up for as long as nothing waits for it in this process.
            self.transport.set_write_buffer_limits(high=0)
            self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]

    def send_receive_event_to_app(self) -> None:
        """Queue a message, and stop reading only when some wait that the application has not taken.

        uvicorn stops after every message and starts again when it is taken: two system calls for each,
        where peers send small messages that are taken at once.
        """
        if self.curr_msg_data_type == "text" and not _is_text(b"".join(self.frames)):
            # As uvicorn has it, which logs each with a traceback: whoever can connect could fill the log.
            self.frames = []
            self.conn.send_close(1007)
            self.handle_parser_exception()
            return
        size = sum(map(len, self.frames))
        paused, self.read_paused = self.read_paused, True  # so that the base class leaves the transport alone
        super().send_receive_event_to_app()
        self.read_paused = paused
        if not paused and (size > READ_AHEAD_BYTES or self.queue.qsize() > READ_AHEAD_MESSAGES):
            self.read_paused = True
            self.transport.pause_reading()

    def handle_events(self) -> None:
        """Handle what has been read, unless the peer keeps this process busy with frames that carry nothing."""
        events = self.conn.events_received()
        small = sum(
            isinstance(one, Frame) and (one.opcode not in _CARRIERS or len(one.data) < SMALL_FRAME_BYTES)
            for one in events
        )
        whole = sum(isinstance(one, Frame) and one.opcode in _WHOLE and one.fin for one in events)
        if small > whole and not self._small_frames.take(self.loop.time(), small - whole):
            self.transport.abort()
            return
        # As the base class takes them from there.
        self.conn.events = events
        super().handle_events()

    def pause_writing(self) -> None:
        """The peer is not keeping up: have whoever sends wait."""
        self.writable = asyncio.Event()

    def resume_writing(self) -> None:
        """The peer has caught up: let whoever waits send."""
        self.writable.set()
        self.writable = _WRITABLE

    def write_now(self, message: TextMessage) -> bool:
        """See `DirectWrites`.

        While nothing waits in the transport, its socket is written past it, which is a fifth faster. The descriptor is
        this connection's until the transport has told of its end (`disconnected`): only then it is closed.
        """
        if self.writable is not _WRITABLE or self.close_sent or self.disconnected or self._descriptor < 0:
            return False
        frame = message.frame
        try:
            written = os.write(self._descriptor, frame)
        except OSError:
            # Full, or broken: the transport finds out which, and does what is to be done about it.
            written = 0
        if written != len(frame):
            self.transport.write(frame[written:])
        return True

    def abort(self) -> None:
        """See `DirectWrites`."""
        self.transport.abort()

    def limit_messages(self, most: int) -> None:
        """See `DirectWrites`."""
        self.conn.max_message_size = most
