"""A pooler that shares one connection to PostgreSQL among its clients, transaction by transaction, as PgBouncer may."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

SOCKET = ".s.PGSQL.5432"
ENDS_A_REQUEST = (b"Q", b"S")
"""Query and Sync: after these the server answers up to ReadyForQuery (PostgreSQL, Message Flow)."""


class TransactionPooler:
    """Stands in for the Unix socket of a PostgreSQL server. `url` is the database's, by way of the pooler."""

    def __init__(self, database_url: str, directory: Path) -> None:
        self._server = Path(parse_qs(urlsplit(database_url).query)["host"][0]) / SOCKET
        self.url = database_url.replace(str(self._server.parent), str(directory))
        self._shared: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._welcome = b""
        self._turn = asyncio.Lock()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until it goes."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            (size,) = struct.unpack("!I", await reader.readexactly(4))
            startup = struct.pack("!I", size) + await reader.readexactly(size - 4)
            async with self._turn:
                if self._shared is None:
                    self._shared = await asyncio.open_unix_connection(self._server)
                    self._shared[1].write(startup)
                    self._welcome, _ = await self._answer()
            writer.write(self._welcome)
            while True:
                async with self._turned(await self._request(reader)) as request:
                    while True:
                        assert self._shared is not None
                        self._shared[1].write(request)
                        answer, idle = await self._answer()
                        writer.write(answer)
                        if idle:
                            break
                        request = await self._request(reader)
        writer.close()

    @contextlib.asynccontextmanager
    async def _turned(self, request: bytes) -> AsyncIterator[bytes]:
        async with self._turn:
            yield request

    async def _request(self, reader: asyncio.StreamReader) -> bytes:
        request = b""
        while True:
            kind, message = await _message(reader)
            if kind == b"X":
                raise ConnectionResetError("the client leaves; the shared connection stays")
            request += message
            if kind in ENDS_A_REQUEST:
                return request

    async def _answer(self) -> tuple[bytes, bool]:
        """All that the server says up to ReadyForQuery, and whether no transaction is open then."""
        assert self._shared is not None
        answer = b""
        while True:
            kind, message = await _message(self._shared[0])
            answer += message
            if kind == b"Z":
                return answer, message.endswith(b"I")

    def close(self) -> None:
        """Let go of the shared connection."""
        if self._shared is not None:
            self._shared[1].close()


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    (size,) = struct.unpack("!I", head[1:])
    return head[:1], head + await reader.readexactly(size - 4)


@contextlib.asynccontextmanager
async def transaction_pooler(database_url: str) -> AsyncIterator[TransactionPooler]:
    """A pooler before the database at `database_url` (which is on a Unix socket)."""
    with tempfile.TemporaryDirectory(prefix="pool-") as directory:
        pooler = TransactionPooler(database_url, Path(directory))
        server = await asyncio.start_unix_server(pooler.serve, Path(directory) / SOCKET)
        try:
            yield pooler
        finally:
            server.close()
            pooler.close()
