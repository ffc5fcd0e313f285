"""An address that serves `GET /metrics` to whoever reaches it, and nothing else.

Threat: a port that asks for no token is where everybody knocks. Mechanism: it is off unless it is set; it reads no more
than the head of one request, within `SECONDS`, serves at most `MOST_CONNECTIONS` at once, and knows one path. What it
tells has no secret in it, and no name that users choose but those of sets and groups. Not covered: who may reach the
address; that is for the network to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

SECONDS = 5.0
ANSWER_SECONDS = 30.0
MOST_CONNECTIONS = 16
MOST_HEAD_BYTES = 8192
Text = Callable[[str], Awaitable[tuple[bytes, str]]]
"""The metrics, written as an Accept header asks; and their media type."""
_log = structlog.get_logger("ringfence.metrics")


def address_of(text: str) -> tuple[str, int]:
    """The host and the port of `127.0.0.1:9464` or `[::1]:9464`. Raises `ValueError`."""
    host, separator, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("write an IPv6 address in brackets, such as [::1]:9464")
    if not separator or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError("must be an address and a port, such as 127.0.0.1:9464")
    return host, int(port)


class AddressError(ValueError):
    """The address cannot be listened on; the message says why and what to do."""


def listening_at(text: str) -> socket.socket:
    """Listen at such an address. Raises `AddressError`."""
    try:
        host, port = address_of(text)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except ValueError as error:
        raise AddressError(f"RINGFENCE_METRICS_ADDRESS {error}") from error
    except OSError as error:
        raise AddressError(
            f"cannot listen on {text}: {error.strerror or error}; choose another with RINGFENCE_METRICS_ADDRESS"
        ) from error


@asynccontextmanager
async def serving(listener: socket.socket, text: Text) -> AsyncIterator[None]:
    """Serve while the block runs. `listener` listens already, and is closed at the end."""
    under_way: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        try:
            if len(under_way) <= MOST_CONNECTIONS:
                await _serve_one(reader, writer, text)
        except (OSError, TimeoutError, asyncio.LimitOverrunError, asyncio.IncompleteReadError):
            pass  # The peer is gone, says nothing, or too much.
        except Exception as error:
            _log.error("cannot serve metrics", exc_info=error)
        finally:
            under_way.discard(task)
            writer.transport.abort() if len(under_way) >= MOST_CONNECTIONS else writer.close()

    server = await asyncio.start_server(serve, sock=listener, limit=MOST_HEAD_BYTES)
    try:
        yield
    finally:
        server.close()
        for task in list(under_way):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*under_way, return_exceptions=True)


async def _serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: Text) -> None:
    async with asyncio.timeout(SECONDS):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *fields = head.split("\r\n")
    method, _, rest = line.partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    if path != "/metrics":
        status, body, kind = "404 Not Found", b"only /metrics is served here\n", "text/plain"
    elif method not in {"GET", "HEAD"}:
        status, body, kind = "405 Method Not Allowed", b"only GET is served here\n", "text/plain"
    else:
        accept = [
            value for name, _, value in (one.partition(":") for one in fields) if name.lower() == "accept"
        ]
        body, kind = await text(",".join(accept))
        status = "200 OK"
    told = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
        "Cache-Control: no-store\r\n\r\n"
    ).encode("latin-1")
    writer.write(told + (b"" if method == "HEAD" else body))
    async with asyncio.timeout(ANSWER_SECONDS):
        await writer.drain()
