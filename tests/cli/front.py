"""A proxy that stands before a host: TLS with a certificate that it asks for, and a path prefix that it takes off.

Real ones are in `tests/proxies`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from tests.certificates import PrivateTls


@dataclass(frozen=True)
class Behind:
    """The ports of what is behind a proxy: what answers requests, and what takes WebSockets."""

    host: int
    sockets: int


@contextlib.contextmanager
def standing(behind: Behind, tls: PrivateTls) -> Iterator[str]:
    """A proxy in a thread of this process; its address, with the prefix."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.chain)
    context.load_verify_locations(tls.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    ready = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    ports: list[int] = []
    stop = asyncio.Event()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" /core/" in head.partition(b"\r\n")[0]
            head = head.replace(b" /core/", b" /", 1)
            upgrades = b"upgrade: websocket" in head.lower()
            if not upgrades:
                head = head[:-2] + b"Connection: close\r\n\r\n"
            to = behind.sockets if upgrades else behind.host
            theirs, ours = await asyncio.open_connection("127.0.0.1", to)
            ours.write(head)
            await asyncio.wait(
                [asyncio.create_task(_pour(reader, ours)), asyncio.create_task(_pour(theirs, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
            ours.close()
        writer.close()

    async def serve() -> None:
        async with await asyncio.start_server(carry, "127.0.0.1", 0, ssl=context) as server:
            ports.append(server.sockets[0].getsockname()[1])
            loops.append(asyncio.get_running_loop())
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(20)
        yield f"https://127.0.0.1:{ports[0]}/core"
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(20)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
