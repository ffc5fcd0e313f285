"""Servers that speak just enough of a protocol for a monitoring plugin, on an address that sandboxes can be let at."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_TO_1900 = 2_208_988_800
"""Seconds from 1900, which RFC 868 counts from, to 1970."""


def own_address() -> str | None:
    """An address of this machine that is not its loopback, which sandboxes have for themselves; None without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # nothing is sent
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address


def greeting(first: str, reply: str = "") -> Talk:
    """Says `first`, and `reply` to each line, until the other side leaves."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first.encode())
        while line := await reader.readline():
            writer.write(reply.encode())
            if line.strip().lower() in {b"quit", b"a1 logout"}:
                return

    return talk


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers any request with a short page."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nready\n")


async def clock(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The time, by RFC 868."""
    writer.write(struct.pack(">I", int(time.time()) + _TO_1900))


SERVICES: dict[str, Talk] = {
    "tcp": greeting("hello\r\n", "hello\r\n"),
    "http": http,
    "ssh": greeting("SSH-2.0-OpenSSH_9.2\r\n"),
    "smtp": greeting("220 mail ESMTP\r\n", "250 fine\r\n"),
    "ftp": greeting("220 ready\r\n", "221 bye\r\n"),
    "pop": greeting("+OK ready\r\n", "+OK\r\n"),
    "imap": greeting("* OK ready\r\n", "a1 OK bye\r\n"),
    "nntp": greeting("200 ready\r\n", "205 bye\r\n"),
    "time": clock,
}


@contextlib.contextmanager
def serving(address: str) -> Iterator[dict[str, int]]:
    """Serve each of `SERVICES`; the ports by name."""
    ports: dict[str, int] = {}
    ready, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for name, talk in SERVICES.items():
                server = await asyncio.start_server(_closing(talk), address, 0)
                await stack.enter_async_context(server)
                ports[name] = server.sockets[0].getsockname()[1]
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield ports
    finally:
        done.set()
        thread.join()


def _closing(talk: Talk) -> Talk:
    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await talk(reader, writer)
            await writer.drain()
        writer.close()

    return served
