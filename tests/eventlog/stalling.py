"""A proxy between a host and its database that can fall silent: nothing passes, and nothing is closed."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

SOCKET = ".s.PGSQL.5432"


class StallingProxy:
    """Stands in for the Unix socket of a PostgreSQL server. `url` is the database's, by way of the proxy."""

    def __init__(self, database_url: str, directory: Path) -> None:
        self._server = Path(parse_qs(urlsplit(database_url).query)["host"][0]) / SOCKET
        self.url = database_url.replace(str(self._server.parent), str(directory))
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def stall(self) -> None:
        """Let nothing pass from now on."""
        self._flowing.clear()

    def resume(self) -> None:
        """Let everything pass again, what was held back included."""
        self._flowing.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, both ways."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._flowing.wait()
                there, back = await asyncio.open_unix_connection(self._server)
                await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while block := await reader.read(65536):
            await self._flowing.wait()
            writer.write(block)
            await writer.drain()
        await self._flowing.wait()
        writer.close()

    async def close(self) -> None:
        """Cut every connection."""
        cut = list(self._tasks)
        for task in cut:
            task.cancel()
        await asyncio.gather(*cut, return_exceptions=True)


@contextlib.asynccontextmanager
async def stalling_proxy(database_url: str) -> AsyncIterator[StallingProxy]:
    """A proxy before the database at `database_url` (which is on a Unix socket)."""
    with tempfile.TemporaryDirectory(prefix="stall-") as directory:
        proxy = StallingProxy(database_url, Path(directory))
        server = await asyncio.start_unix_server(proxy.serve, Path(directory) / SOCKET)
        try:
            yield proxy
        finally:
            server.close()
            await proxy.close()
