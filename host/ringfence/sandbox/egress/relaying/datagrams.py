"""UDP and echo requests through the relay: each conversation of the run is one of the host's own.

What the run sends is taken from what is seen of its network, and what comes back is put there, from where the run has
sent to. An error outside (nobody listens on that port) is told inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import cast

from . import packets
from .destinations import Address, Open
from .packets import Packet
from .streams import Key
from .tally import Failure, Flow, Protocol, Tally, place

IDLE_S = 180.0
"""How long a conversation is remembered in which nothing is said."""

MOST_CONVERSATIONS = 512
"""Conversations at once; the one in which nothing was said for longest makes room."""

ECHO = -1
"""In place of a port, where there is none."""

MOST_WAITING = 64
"""Datagrams that wait until the host's socket is there."""


class Datagrams:
    """All conversations of one run."""

    def __init__(self, tally: Tally, inject: Callable[[bytes], None]) -> None:
        """Begin with none; `inject` puts a packet into the run's network."""
        self._tally = tally
        self._inject = inject
        self._conversations: OrderedDict[Key, _Conversation] = OrderedDict()

    def go_on(self, packet: Packet) -> bool:
        """Send what belongs to a conversation that has begun; False if there is none.

        Like a connection, it goes on when its address is open no longer to new ones.
        """
        conversation = self._conversations.get(_key(packet))
        if conversation is None:
            return False
        self._conversations.move_to_end(_key(packet))
        conversation.take(packet)
        return True

    def begin(self, packet: Packet, verdict: Open) -> None:
        """The run sends a datagram, or asks if a host is there, as it may."""
        kind = _Echoes if packet.is_echo_request else _Conversation
        conversation = self._conversations[_key(packet)] = kind(self, packet, verdict)
        conversation.take(packet)
        while len(self._conversations) > MOST_CONVERSATIONS:
            self._conversations[next(iter(self._conversations))].close()

    def inject(self, packet: bytes) -> None:
        """Put a packet into the run's network."""
        self._inject(packet)

    def ended(self, conversation: _Conversation, key: Key) -> None:
        """A conversation is over."""
        if self._conversations.get(key) is conversation:
            del self._conversations[key]

    def begun(self, conversation: _Conversation, address: Address, port: int) -> Flow:
        """A conversation has begun."""
        verdict = conversation.verdict
        return self._tally.connected(
            place(address, local=verdict.local), port, conversation.protocol, name=verdict.name
        )

    def failed(self, conversation: _Conversation, address: Address, port: int, how: Failure) -> None:
        """Nobody can be spoken to there."""
        verdict = conversation.verdict
        self._tally.failed(
            place(address, local=verdict.local), port, conversation.protocol, how, name=verdict.name
        )

    def close(self) -> None:
        """End all that there is."""
        for conversation in list(self._conversations.values()):
            conversation.close()


def _key(packet: Packet) -> Key:
    """What tells one conversation from all others. Those of echo requests have an identifier in place of a port."""
    if packet.is_echo_request:
        return packet.source, int.from_bytes(packet.transport[4:6], "big"), packet.destination, ECHO
    return packet.key


class _Conversation(asyncio.DatagramProtocol):
    """Datagrams between one port of the run and one elsewhere."""

    protocol: Protocol = "udp"

    _to: tuple[str, int] | None = None
    """Where asyncio is to send to, if it does not know that from the socket."""

    def __init__(self, datagrams: Datagrams, first: Packet, verdict: Open) -> None:
        self.verdict = verdict
        self.last = first
        self._datagrams = datagrams
        self._key = _key(first)
        self._flow = Flow()
        self._failed = False
        self._is_full = False
        self._outside: socket.socket | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._waiting: list[bytes] = []
        self._over = False
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(IDLE_S, self._look)
        self._opening = self._loop.create_task(self._open())

    @property
    def _port(self) -> int:
        return max(self._key[3], 0)

    async def _open(self) -> None:
        try:
            self._outside = self._socket()
            await self._loop.create_datagram_endpoint(lambda: self, sock=self._outside)
        except OSError:
            self._fail("unreachable")
            # What is sent next begins anew: there may be a way by then.
            self.close()

    def _socket(self) -> socket.socket:
        _, _, address, port = self._key
        # A service of the host's loopback is where the run asked for it.
        outside = socket.socket(
            socket.AF_INET if address.version == 4 else socket.AF_INET6,
            socket.SOCK_DGRAM | socket.SOCK_NONBLOCK,
        )
        try:
            outside.connect((str(address), port))
        except BaseException:
            outside.close()
            raise
        return outside

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self._flow = self._datagrams.begun(self, self._key[2], self._port)
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self._pass_on(self._transport, data)

    def take(self, packet: Packet) -> None:
        """Send what the run has sent."""
        self.last = packet
        self._send(packet.payload)

    def _send(self, data: bytes) -> None:
        self._heard = self._loop.time()
        if self._transport is None:
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append(data)
        elif not self._is_full:
            self._pass_on(self._transport, data)

    def _pass_on(self, transport: asyncio.DatagramTransport, data: bytes) -> None:
        self._flow.sent += len(data)
        if data:
            transport.sendto(data, self._to)
        elif self._outside is not None:
            # asyncio takes an empty datagram for nothing to send (until Python 3.13).
            try:
                self._outside.send(data)
            except BlockingIOError:
                # Lost, as on any busy link.
                return
            except OSError as error:
                self.error_received(error)

    def pause_writing(self) -> None:
        """The host's socket takes no more for now: what comes then is lost, as on any busy link."""
        self._is_full = True

    def resume_writing(self) -> None:
        """It takes more again."""
        self._is_full = False

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        self._heard = self._loop.time()
        self._flow.received += len(data)
        source, port, address, other = self._key
        self._datagrams.inject(packets.datagram((address, other), (source, port), data))

    def error_received(self, exc: Exception) -> None:
        self._fail("refused" if isinstance(exc, ConnectionRefusedError) else "unreachable")

    def _fail(self, how: Failure) -> None:
        """Tell the run that nobody can be spoken to there."""
        if not self._failed:
            self._failed = True
            self._datagrams.failed(self, self._key[2], self._port, how)
        what = packets.PORT_UNREACHABLE if how == "refused" else packets.HOST_UNREACHABLE
        self._datagrams.inject(packets.unreachable(self.last, what))

    def _look(self) -> None:
        """End it if nothing was said for long enough."""
        left = self._heard + IDLE_S - self._loop.time()
        if left <= 0:
            self.close()
        else:
            self._timer = self._loop.call_later(left, self._look)

    def close(self) -> None:
        """Let go of it."""
        if self._over:
            return
        self._over = True
        self._timer.cancel()
        self._opening.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._datagrams.ended(self, self._key)


class _Echoes(_Conversation):
    """Echo requests of one program to one host, by a socket that any user may have (icmp(7), ping_group_range)."""

    protocol: Protocol = "icmp"

    def take(self, packet: Packet) -> None:
        """Send the request that the run has sent."""
        self.last = packet
        self._send(packet.transport)

    def _socket(self) -> socket.socket:
        address = self._key[2]
        family, protocol = (
            (socket.AF_INET, socket.IPPROTO_ICMP)
            if address.version == 4
            else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
        )
        outside = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, protocol)
        # The kernel tells no peer of a socket whose peer has no port, so asyncio takes it for one without.
        self._to = str(address), 0
        try:
            outside.connect(self._to)
        except BaseException:
            outside.close()
            raise
        return outside

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        if len(data) < 8 or data[0] not in (packets.ECHO_REPLY, packets.ECHO_REPLY_V6):
            return
        self._heard = self._loop.time()
        self._flow.received += len(data)
        # The host's socket has an identifier of its own; the number within the conversation is the run's.
        number = data[6:8]
        asked = self.last.transport
        again = Packet(
            self.last.source,
            self.last.destination,
            self.last.protocol,
            asked[:6] + number + asked[8:],
            self.last.whole,
        )
        self._datagrams.inject(packets.echo_reply(again, data[8:]))


def may_ping() -> bool:
    """Whether this process can send echo requests."""
    with contextlib.suppress(OSError):
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close()
        return True
    return False
