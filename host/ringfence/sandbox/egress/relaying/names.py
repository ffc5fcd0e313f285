"""Names through the relay: what the run asks of its resolver is asked of the host's, if the name is listed.

Addresses are looked up as the host's own programs do (getaddrinfo(3)): by its files, its resolvers, its search domains.
Other records are asked of the name servers in its resolv.conf.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .destinations import Destinations
from .packets import Address, plain
from .resolv_conf import nameservers
from .resolving import (
    Lookup,
    answer_addresses,
    answer_records,
    fail,
    is_answer,
    is_truncated,
    read_query,
    upstream_query,
)
from .tally import Tally

RESOLV_CONF = "/etc/resolv.conf"

TTL_S = 5
"""What is answered may have changed after so many seconds: what the host's resolver answers has no time with it."""

MOST_AT_ONCE = 256
"""So many questions wait for an answer at once; more are told to try again."""

MOST_CONNECTIONS = 64
"""So many connections to the resolver are kept open at once."""

THREADS = 16
PATIENCE_S = 5.0
"""How long a name server may take, before the next one is asked."""

MOST_BYTES = 65535
DNS = 53


@dataclass(frozen=True, slots=True)
class _Found:
    """What a name means to the host; `exists` is False if there is no such name."""

    addresses: tuple[Address, ...]
    exists: bool


class Names:
    """The resolver of one run."""

    def __init__(self, destinations: Destinations, tally: Tally) -> None:
        """Begin."""
        self._destinations = destinations
        self._tally = tally
        self._threads = ThreadPoolExecutor(THREADS, "names")
        self._looking: dict[str, asyncio.Future[_Found]] = {}
        self._lookups: dict[asyncio.Task[None], None] = {}
        self._connections: dict[asyncio.Task[None], None] = {}

    def ask(self, query: bytes, reply: Callable[[bytes], None], *, tcp: bool = False) -> bool:
        """Answer a query, now or later; False if it deserves no answer."""
        read = read_query(query, self._destinations, tcp=tcp)
        if isinstance(read, Lookup):
            if len(self._lookups) >= MOST_AT_ONCE:
                reply(fail(read))
            else:
                _keep(self._lookups, self._answer(read, reply))
        elif read is not None:
            if read.refused is not None:
                self._tally.name(read.refused, "refused")
            reply(read.wire)
        return read is not None

    async def serve(self, connection: socket.socket) -> None:
        """Answer the queries of a TCP connection, one after the other (RFC 1035, 4.2.2)."""
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    query = await reader.readexactly(length)
                    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
                    if not self.ask(query, answered.set_result, tcp=True):
                        return
                    answer = await answered
                    writer.write(len(answer).to_bytes(2, "big") + answer)
                    await writer.drain()
        finally:
            writer.close()

    def take(self, connection: socket.socket) -> None:
        """A TCP connection to the resolver; if there are too many, the oldest makes room."""
        if len(self._connections) >= MOST_CONNECTIONS:
            next(iter(self._connections)).cancel()
        _keep(self._connections, self.serve(connection))

    def close(self) -> None:
        """Answer nothing any more."""
        for task in (*self._lookups, *self._connections):
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, lookup: Lookup, reply: Callable[[bytes], None]) -> None:
        try:
            reply(await self._answered(lookup))
        except (OSError, TimeoutError):
            self._tally.name(lookup.name, "failed")
            reply(fail(lookup))

    async def _answered(self, lookup: Lookup) -> bytes:
        if lookup.family is None:
            answer = answer_records(lookup, await _asked_upstream(lookup))
            self._tally.name(lookup.name, "answered")
            return answer
        found = await self._found(lookup.name)
        now = asyncio.get_running_loop().time()
        opened, refused = self._destinations.open(lookup.name, found.addresses, TTL_S, now)
        for address, why in refused:
            self._tally.refused(str(address), 0, "tcp", why, name=lookup.name)
        wanted = [str(each) for each in opened if each.version == lookup.family]
        self._tally.name(lookup.name, "answered" if found.exists else "nxdomain", wanted)
        return answer_addresses(lookup, wanted, TTL_S, exists=found.exists)

    async def _found(self, name: str) -> _Found:
        """What a name means. Both families are asked for at once, for which programs ask one after the other."""
        looking = self._looking.get(name)
        if looking is None:
            looking = asyncio.get_running_loop().run_in_executor(self._threads, _look_up, name)
            self._looking[name] = looking
            looking.add_done_callback(lambda _: self._looking.pop(name, None))
        return await asyncio.shield(looking)


def _keep(kept: dict[asyncio.Task[None], None], work: Coroutine[object, object, None]) -> None:
    """Have a task do it, which is kept until it is over."""
    task = asyncio.get_running_loop().create_task(work)
    kept[task] = None
    task.add_done_callback(lambda _: kept.pop(task, None))


def _look_up(name: str) -> _Found:
    """On a thread: what a name means to the host. Raises OSError if that cannot be said now."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_NONAME:
            return _Found((), exists=False)
        if error.errno == socket.EAI_NODATA:
            return _Found((), exists=True)
        raise
    except UnicodeError:
        return _Found((), exists=False)
    return _Found(tuple(dict.fromkeys(plain(str(each[4][0])) for each in found)), exists=True)


async def _asked_upstream(lookup: Lookup) -> bytes:
    """The answer of the first name server that gives one. Raises OSError."""
    query = upstream_query(lookup)
    for server in nameservers(await asyncio.to_thread(_resolv_conf)):
        for ask in (_by_udp, _by_tcp):
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(PATIENCE_S):
                    answer = await ask(server, lookup, query)
                if not is_truncated(answer):
                    return answer
    raise OSError("no name server has answered")


def _resolv_conf() -> str:
    with contextlib.suppress(OSError):
        return Path(RESOLV_CONF).read_text(encoding="utf-8", errors="replace")
    return ""


async def _by_tcp(server: str, lookup: Lookup, query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server, DNS)
    try:
        writer.write(len(query).to_bytes(2, "big") + query)
        return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    finally:
        writer.close()


async def _by_udp(server: str, lookup: Lookup, query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    address = (await loop.getaddrinfo(server, DNS, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST))[0]
    with socket.socket(address[0], socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as asking:
        asking.connect(address[4])
        await loop.sock_sendall(asking, query)
        while not is_answer(lookup, answer := await loop.sock_recv(asking, MOST_BYTES)):
            pass
        return answer
