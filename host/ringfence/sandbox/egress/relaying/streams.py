"""TCP through the relay: a connection inside comes to be when the one outside has, and tells what that one tells.

The run's request to connect is held (its listener hears nothing that lacks the mark) until the host's own connection to
the same place is there, or has failed: refused outside is refused inside, unreachable is unreachable, and where nobody
answers, nobody answers. Then bytes are passed on as they are, both ways, with no more in memory than `AHEAD` each way.

What waits outside, in sockets of the host, is memory of the machine that no look at the run shows (`counting`). So
these hold little, and the less the more of them there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import Callable
from typing import cast

from . import packets
from .destinations import LOCAL, Address, Destinations, Open
from .packets import Packet
from .server_name import Greeting, ServerName, Undecided, Unreadable
from .tally import Failure, Flow, Tally, place

AHEAD = 256 * 1024
"""So many bytes wait in memory for an end that takes none before the other end has to wait."""

MOST_CONNECTIONS = 1000
"""Connections, made and in the making: each takes two descriptors of the relay."""

UNSENT = 128 * 1024
"""So many bytes wait in a socket outside beside those that its other end takes at once."""

WIDEST, NARROWEST, FEW = 8 * 1024 * 1024, 64 * 1024, 8
"""How many bytes may come to one of a few connections before they are passed on; of each few more, half as many."""

TAKEN_S = 10.0
"""How long the run may take to complete a connection when the one outside is there."""

UNREACHABLE = {
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EADDRNOTAVAIL,
    errno.EHOSTDOWN,
    errno.ENETDOWN,
    errno.EACCES,
    errno.EPERM,
}

Key = tuple[Address, int, Address, int]


class Streams:
    """All TCP connections of one run."""

    def __init__(
        self,
        destinations: Destinations,
        tally: Tally,
        inject: Callable[[bytes], None],
        *,
        checks_server_name: bool,
    ) -> None:
        """Begin with none; `inject` puts a packet into the run's network."""
        self._destinations = destinations
        self._tally = tally
        self._inject = inject
        self._checks = checks_server_name
        self._connecting: dict[Key, tuple[asyncio.Task[None], Open]] = {}
        self._connected: dict[Key, tuple[socket.socket, Open, asyncio.TimerHandle]] = {}
        self._pairs: set[_Pair] = set()

    def ask(self, packet: Packet, verdict: Open) -> None:
        """The run asks for a connection that it may have."""
        key = packet.key
        if key in self._connected:
            # Its listener had no room for it when it was let in.
            self._inject(packets.again(packet))
            return
        if key in self._connecting:
            # It asks again, since nobody has answered yet.
            return
        if self._is_full() and self._connecting:
            # Most likely nobody waits for it any more, which is not seen here. Who does, asks again (RFC 9293).
            self._abandon(next(iter(self._connecting)))
        if self._is_full():
            why = "too many connections at once"
            self._tally.refused(place(key[2], local=verdict.local), key[3], "tcp", why, name=verdict.name)
            self._inject(packets.refusal(packet))
            return
        connecting = asyncio.get_running_loop().create_task(self._connect(packet, verdict))
        self._connecting[key] = connecting, verdict

    def _is_full(self) -> bool:
        return self._count() >= MOST_CONNECTIONS

    def _count(self) -> int:
        return len(self._connecting) + len(self._connected) + len(self._pairs)

    async def _connect(self, packet: Packet, verdict: Open) -> None:
        _, _, address, port = key = packet.key
        others = self._count() - 1
        try:
            outside = await _connection(address, port, others, local=verdict.local)
        except OSError as error:
            del self._connecting[key]
            self._fail(packet, verdict, error)
            return
        del self._connecting[key]
        timer = asyncio.get_running_loop().call_later(TAKEN_S, self._give_up, key)
        self._connected[key] = outside, verdict, timer
        self._inject(packets.again(packet))

    def _fail(self, packet: Packet, verdict: Open, error: OSError) -> None:
        how: Failure
        if error.errno in UNREACHABLE:
            how = "unreachable"
            self._inject(packets.unreachable(packet, packets.HOST_UNREACHABLE))
        elif isinstance(error, TimeoutError):
            how = "timed out"
        else:
            how = "refused"
            self._inject(packets.refusal(packet))
        self._tell(packet.key, verdict, how)

    def _abandon(self, key: Key) -> None:
        """Connect no longer; nobody has answered so far."""
        connecting, verdict = self._connecting.pop(key)
        connecting.cancel()
        self._tell(key, verdict, "timed out")

    def _tell(self, key: Key, verdict: Open, how: Failure) -> None:
        self._tally.failed(place(key[2], local=verdict.local), key[3], "tcp", how, name=verdict.name)

    def _give_up(self, key: Key) -> None:
        outside, _, _ = self._connected.pop(key)
        outside.close()

    def take(self, inside: socket.socket) -> None:
        """A connection that a listener has let in."""
        source, destination = inside.getpeername(), inside.getsockname()
        key = packets.plain(source[0]), source[1], packets.plain(destination[0]), destination[1]
        waiting = self._connected.pop(key, None)
        if waiting is None:
            # Nobody has decided that it may be.
            _reset(inside)
            return
        outside, verdict, timer = waiting
        timer.cancel()
        flow = self._tally.connected(place(key[2], local=verdict.local), key[3], "tcp", name=verdict.name)
        pair = _Pair(self, key, verdict, flow)
        self._pairs.add(pair)
        pair.begin(inside, outside)

    def permits(self, pair: _Pair, greeted: ServerName | Unreadable) -> bool:
        """Whether a TLS client may go on that greets its server so; tells of it if not."""
        _, _, address, port = pair.key
        if isinstance(greeted, Unreadable):
            why = "the TLS client's greeting cannot be read"
        elif self._destinations.permits_server_name(greeted.name, port):
            return True
        else:
            why = f"the server name {greeted.name} is not allowed"
        self._tally.refused(place(address), port, "tcp", why, name=pair.verdict.name)
        return False

    def checks(self, verdict: Open) -> bool:
        """Whether the name that a TLS client says matters."""
        return self._checks and verdict.name is not None

    def ended(self, pair: _Pair) -> None:
        """Both ends of a connection are gone."""
        self._pairs.discard(pair)

    def close(self) -> None:
        """End all that there is."""
        for key in list(self._connecting):
            self._abandon(key)
        for key in list(self._connected):
            self._connected[key][2].cancel()
            self._give_up(key)
        for pair in list(self._pairs):
            pair.abort()


async def _connection(address: Address, port: int, others: int, *, local: bool) -> socket.socket:
    """A connection of the host's own, beside so many others. Raises OSError."""
    # A service of the host's loopback may listen on either of its addresses, whichever the run asked for.
    places = [address, *(each for each in LOCAL if each != address)] if local else [address]
    failure: OSError | None = None
    for each in places:
        outside = socket.socket(
            socket.AF_INET if each.version == 4 else socket.AF_INET6,
            socket.SOCK_STREAM | socket.SOCK_NONBLOCK,
        )
        try:
            _modest(outside, others)
            await asyncio.get_running_loop().sock_connect(outside, (str(each), port))
        except OSError as error:
            outside.close()
            failure = failure or error
        except BaseException:
            outside.close()
            raise
        else:
            return outside
    assert failure is not None
    raise failure


def window(others: int) -> int:
    """How many bytes may come to a connection before they are passed on, if there are so many others."""
    return max(WIDEST >> (others // FEW), NARROWEST)


def _modest(outside: socket.socket, others: int) -> None:
    """Have a socket that is to connect hold little: tcp(7), TCP_WINDOW_CLAMP; TCP_NOTSENT_LOWAT."""
    outside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
    outside.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, window(others))
    if others >= FEW:
        # Otherwise the kernel lets it grow with what the other end takes.
        outside.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, window(others))


def _reset(connection: socket.socket) -> None:
    """Close a connection so that its other end is told that it was cut."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class _Pair:
    """Both ends of one connection."""

    def __init__(self, streams: Streams, key: Key, verdict: Open, flow: Flow) -> None:
        self.key, self.verdict = key, verdict
        self._flow = flow
        self._streams = streams
        self.inside, self.outside = _End(self), _End(self)
        self.inside.other, self.outside.other = self.outside, self.inside
        self._greeting = Greeting() if streams.checks(verdict) else None
        self._held = b""

    def begin(self, inside: socket.socket, outside: socket.socket) -> None:
        inside.setblocking(False)
        loop = asyncio.get_running_loop()
        for end, connection in ((self.inside, inside), (self.outside, outside)):
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.task = loop.create_task(end.attach(connection))

    def pass_on(self, end: _End, data: bytes) -> None:
        """Bytes have come from one end."""
        if end is self.outside:
            self._flow.received += len(data)
        else:
            self._flow.sent += len(data)
            if self._greeting is not None:
                self._greet(self._greeting, data)
                return
        end.other.write(data)

    def _greet(self, greeting: Greeting, data: bytes) -> None:
        """Hold what the run says until it is known whom it greets."""
        self._held += data
        found = greeting.feed(data)
        if isinstance(found, Undecided):
            return
        if isinstance(found, ServerName | Unreadable) and not self._streams.permits(self, found):
            self.abort()
            return
        self._greeting = None
        held, self._held = self._held, b""
        self.outside.write(held)

    def finish(self, end: _End) -> None:
        """Nothing more comes from one end."""
        if end is self.inside and self._held:
            # It said no more than the beginning of what would have told.
            end.other.write(self._held)
            self._held = b""
        end.other.write_eof()

    def lost(self, end: _End, failure: Exception | None) -> None:
        """One end is gone; a cut is passed on as a cut."""
        if failure is None:
            end.other.close()
        else:
            end.other.cut()
        if self.inside.gone and self.outside.gone:
            self._streams.ended(self)

    def abort(self) -> None:
        """Cut both ends."""
        self.inside.cut()
        self.outside.cut()


class _End(asyncio.Protocol):
    """One end of a connection, as asyncio has it."""

    other: _End

    def __init__(self, pair: _Pair) -> None:
        self._pair = pair
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._ends_early = False
        self._closed: str | None = None
        self.gone = False
        self.task: asyncio.Task[None] | None = None

    async def attach(self, connection: socket.socket) -> None:
        """Be the protocol of this connection."""
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: self, connection)
        except OSError as error:
            connection.close()
            self.connection_lost(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=AHEAD)
        early, self._early = self._early, []
        for data in early:
            self.write(data)
        if self._ends_early:
            self.write_eof()
        if self._closed == "cut":
            self.cut()
        elif self._closed == "closed":
            self.close()

    def data_received(self, data: bytes) -> None:
        self._pair.pass_on(self, data)

    def eof_received(self) -> bool:
        self._pair.finish(self)
        # The other way may still be open.
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.gone:
            self.gone = True
            self._pair.lost(self, exc)

    def pause_writing(self) -> None:
        if self.other._transport is not None and not self.other._transport.is_closing():
            self.other._transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other._transport is not None and not self.other._transport.is_closing():
            self.other._transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Send bytes to this end, as soon as it takes them."""
        if self._transport is None:
            self._early.append(data)
        elif not self._transport.is_closing():
            self._transport.write(data)

    def write_eof(self) -> None:
        """Tell this end that no more comes; when both ways are over, so is the connection."""
        self._ends_early = True
        if self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(OSError, RuntimeError):
                self._transport.write_eof()
            if self.other._ends_early:
                self._transport.close()
                if self.other._transport is not None:
                    self.other._transport.close()

    def close(self) -> None:
        """Close this end when it has taken all."""
        if self._transport is not None:
            self._transport.close()
        else:
            self._closed = self._closed or "closed"

    def cut(self) -> None:
        """Close this end at once, so that it is told of a cut."""
        self._closed = "cut"
        if self._transport is not None:
            connection = self._transport.get_extra_info("socket")
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
