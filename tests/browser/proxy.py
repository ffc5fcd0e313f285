"""A proxy in front of instances, as a load balancer is: it carries TCP connections, and can cut them all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Proxy:
    """Carries each new connection to the instance at the URL `to`, at that moment."""

    def __init__(self, to: str) -> None:
        self.to = to
        self.url = ""
        self._open: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Have every connection break."""
        for writer in self._open:
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = urlsplit(self.to)
        self._open.add(writer)
        try:
            with suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection(there.hostname, there.port)
                self._open.add(far_writer)
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._pipe(reader, far_writer))
                        group.create_task(self._pipe(far_reader, writer))
                finally:
                    self._open.discard(far_writer)
                    far_writer.close()
        finally:
            self._open.discard(writer)
            writer.close()

    @staticmethod
    async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def proxy(to: str) -> AsyncIterator[Proxy]:
    """A proxy that listens on the loopback."""
    one = Proxy(to)
    server = await asyncio.start_server(one._carry, "127.0.0.1", 0)
    one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield one
    finally:
        server.close()
        one.cut()
