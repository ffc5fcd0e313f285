"""Serving one instance's application: a listening socket, uvicorn, and a clean end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from ringfence.plugins.draining import Drain
from ringfence.web.draining import Door
from ringfence.web.faults import Told
from ringfence.web.idle_connections import most_connections, receiving_protocol
from ringfence.web.websocket import DirectWebSocketProtocol, WebSocketDispatcher

WEBSOCKET_FRAME_BYTES = 16 * 1024 * 1024
"""The largest WebSocket message taken from a peer; plugins bound theirs further."""
GRACEFUL_SECONDS = 5
TICK_SECONDS = 1.0


class ListenError(OSError):
    """The address cannot be listened on; the message says why and what to do."""


def listen(host: str, port: int, *, instead: str = "choose others with --host and --port") -> socket.socket:
    """Bind and listen; port 0 picks a free one. Raises `ListenError`, which says what to do `instead`."""
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
            f"cannot listen on {host} port {port}: {error.strerror or error}; {instead}"
        ) from error
    return listener


@contextmanager
def listening_at(path: Path) -> Iterator[socket.socket]:
    """Listen on a Unix socket that its owner and group may use, until the block ends. Raises `ListenError`.

    One that nobody listens on any more, since its host was killed, is replaced.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            _remove_left_behind(path)
            listener.bind(str(path))
            path.chmod(0o660)
            listener.listen(4096)
        except OSError as error:
            raise ListenError(
                f"cannot listen on {path}: {error.strerror or error}; choose another with RINGFENCE_SOCKET"
            ) from error
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)
    finally:
        listener.close()


def _remove_left_behind(path: Path) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        try:
            caller.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()


def url_of(listener: socket.socket) -> str:
    """The URL at which a listener on this machine is reached; a wildcard address becomes loopback."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (read, not bound)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: whoever runs the host decides when it stops."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopped = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    def stop(self) -> None:
        """Take no more connections, and end when open requests have been answered."""
        self.should_exit = True
        self._stopped.set()

    async def main_loop(self) -> None:
        """Wait for the end.

        uvicorn looks ten times a second for it, and each second renews what every answer has in common: its date.
        """
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._stopped.wait()


@asynccontextmanager
async def serving(
    app: FastAPI, *listeners: socket.socket, trusted_proxies: str = "127.0.0.1,::1"
) -> AsyncIterator[None]:
    """Serve `app` on `listeners` while the block runs.

    Then let open requests finish, within `GRACEFUL_SECONDS`. `trusted_proxies` are believed when they say whom they
    speak for (X-Forwarded-For).
    """
    # An application that is no instance's never drains.
    drain = getattr(app.state, "drain", None) or Drain()
    config = uvicorn.Config(
        Door(Told(WebSocketDispatcher(app, app.state.websockets)), drain),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        http=receiving_protocol(most_connections()),
        proxy_headers=True,
        forwarded_allow_ips=trusted_proxies,
        ws=DirectWebSocketProtocol,
        ws_max_size=WEBSOCKET_FRAME_BYTES,
        # Frames here are small, and a compression context costs each connection more than all else that it
        # holds.
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=list(listeners)), name="web server")
    try:
        yield
    finally:
        server.stop()
        await task
