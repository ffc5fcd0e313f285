"""Serving one instance's application: a listening socket, uvicorn, and a clean end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI

from ringfence.web.faults import Told
from ringfence.web.websocket import DirectWebSocketProtocol, WebSocketDispatcher

WEBSOCKET_FRAME_BYTES = 16 * 1024 * 1024
"""The largest WebSocket message taken from a peer; plugins bound theirs further."""
GRACEFUL_SECONDS = 5


class ListenError(OSError):
    """The address cannot be listened on; the message says why and what to do."""


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen; port 0 picks a free one. Raises `ListenError`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(4096)
    except OSError as error:
        raise ListenError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; choose others with --host and --port"
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL at which a listener on this machine is reached; a wildcard address becomes loopback."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (read, not bound)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: whoever runs the host decides when it stops."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


@asynccontextmanager
async def serving(app: FastAPI, listener: socket.socket) -> AsyncIterator[None]:
    """Serve `app` on `listener` while the block runs; then let open requests finish, within
    `GRACEFUL_SECONDS`.
    """
    config = uvicorn.Config(
        Told(WebSocketDispatcher(app, app.state.websockets)),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ws=DirectWebSocketProtocol,
        ws_max_size=WEBSOCKET_FRAME_BYTES,
        # Frames here are small, and a compression context costs each connection more than all else that it
        # holds.
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="web server")
    try:
        yield
    finally:
        server.should_exit = True
        await task
