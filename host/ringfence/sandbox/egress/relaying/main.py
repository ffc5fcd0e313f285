"""The relay of one run: the process that makes the run's connections for it, outside of its network.

It is a fork of a spawner that has read this program before (`relaying` is imported once, in a process that starts no
program), as the run's own uid and with the lowest claims, like the run. It has no capability, and nothing of the
supervisor but a socket to it. When that closes, it ends.

Threat: the run. Whatever it sends, to this process that is bytes: it is parsed by `packets`, `resolving` and
`server_name`, or passed on unread. What it can exhaust is this process, which is its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import json
import os
import secrets
import socket
from typing import Any

from . import packets
from .datagrams import Datagrams, may_ping
from .destinations import NOT_ALLOWED, Address, Destinations, Refused, Verdict
from .inside.opening import Inside, open_inside, unseen
from .inside.whereabouts import DNS, OWN_V4, OWN_V6, RESOLVER, OpeningError
from .names import Names
from .orders import Orders
from .packets import Packet
from .streams import Streams
from .tally import Protocol, Tally

PR_SET_NO_NEW_PRIVS = 38

MOST_AT_ONCE = 64
"""So many packets are taken before others have their turn."""

LARGEST_PACKET = 65536 + 64


def run(pid: int, orders: bytes, control: socket.socket, *, bring_up: bool = False) -> None:
    """Be the relay of the run whose process `pid` is, until the supervisor closes its end of `control`.

    It is told on `control`: `{"ready": true}` or `{"failed": why}`, and at the end what was tried.
    """
    try:
        _gain_nothing()
        read = Orders.from_json(orders)
        mark = secrets.randbits(31) | 1
        inside = open_inside(pid, read, mark, bring_up=bring_up)
    except (OpeningError, OSError) as error:
        _say(control, {"failed": str(error)})
        return
    asyncio.run(_Relay(read, inside, control).serve())


def _gain_nothing() -> None:
    """Have no program that is started from here get rights of its own (PR_SET_NO_NEW_PRIVS, prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl: {os.strerror(number)}")


def _say(control: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        control.sendall(json.dumps(message).encode() + b"\n")


class _Relay:
    """One run's relay, on the running loop."""

    def __init__(self, orders: Orders, inside: Inside, control: socket.socket) -> None:
        self._inside = inside
        self._control = control
        self._tally = Tally()
        self._destinations = Destinations(orders)
        self._streams = Streams(
            self._destinations, self._tally, self._inject, checks_server_name=orders.checks_server_name
        )
        self._datagrams = Datagrams(self._tally, self._inject)
        self._names = Names(self._destinations, self._tally)
        self._listening = _ports_of(inside.listeners)
        self._swallowing = _ports_of(inside.swallowing)
        self._every_port = orders.every_port

    async def serve(self) -> None:
        """Serve until the supervisor wants no more, and tell what was tried."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        self._control.setblocking(False)
        loop.add_reader(self._control, functools.partial(_set, over))
        self._inside.watching.setblocking(False)
        loop.add_reader(self._inside.watching, self._on_packets)
        for listener in self._inside.listeners:
            listener.setblocking(False)
            loop.add_reader(listener, self._on_connection, listener, self._streams.take)
        for listener in self._inside.names:
            listener.setblocking(False)
            loop.add_reader(listener, self._on_connection, listener, self._names.take)
        _say(self._control, {"ready": True, "pings": self._inside.pings and may_ping()})
        await over
        # What was sent before its end, and not seen yet.
        while self._on_packets():
            pass
        self._tally.unseen(unseen(self._inside.watching))
        self._names.close()
        self._streams.close()
        self._datagrams.close()
        self._control.setblocking(True)
        _say(self._control, self._tally.to_json())

    def _inject(self, packet: bytes) -> None:
        version = packet[0] >> 4
        injecting = self._inside.injecting.get(version)
        if injecting is None:
            return
        with contextlib.suppress(OSError):
            if version == 4:
                injecting.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
            else:
                injecting.sendto(packet, (socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0, 0, 0))

    def _on_connection(self, listener: socket.socket, take: Any) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            connection.setblocking(False)
            take(connection)

    def _on_packets(self) -> bool:
        """Take some of what was sent; whether there may be more."""
        for _ in range(MOST_AT_ONCE):
            try:
                data = self._inside.watching.recv(LARGEST_PACKET)
            except OSError:
                return False
            packet = packets.read(data)
            if packet is not None:
                self._on_packet(packet)
        return True

    def _on_packet(self, packet: Packet) -> None:
        now = asyncio.get_running_loop().time()
        if packet.is_first_of_connection:
            self._on_wanted_connection(packet, now)
        elif packet.protocol == packets.UDP:
            self._on_datagram(packet, now)
        elif packet.protocol in (packets.ICMP, packets.ICMPV6) and packet.is_echo_request:
            if self._is_own(packet):
                self._inject(packets.echo_reply(packet, packet.payload))
                return
            if self._datagrams.go_on(packet):
                return
            verdict = self._destinations.permits_host(packet.destination, now)
            if isinstance(verdict, Refused):
                self._refuse("icmp", packet.destination, 0, verdict)
                self._inject(packets.unreachable(packet, packets.HOST_UNREACHABLE))
            else:
                self._datagrams.begin(packet, verdict)

    def _on_wanted_connection(self, packet: Packet, now: float) -> None:
        address, port = packet.destination, packet.ports[1]
        if _is_resolver(address, port):
            return
        verdict = self._judge(address, port, now)
        if not isinstance(verdict, Refused):
            self._streams.ask(packet, verdict)
            return
        if not self._is_own(packet):
            self._refuse("tcp", address, port, verdict)
        if self._takes(address, port, self._listening):
            # Where nobody listens the kernel has refused it already.
            self._inject(packets.refusal(packet))

    def _on_datagram(self, packet: Packet, now: float) -> None:
        address, port = packet.destination, packet.ports[1]
        if _is_resolver(address, port):
            source = packet.source, packet.ports[0]
            answer = functools.partial(self._answer, source)
            self._names.ask(packet.payload, answer)
            return
        if self._datagrams.go_on(packet):
            return
        verdict = self._judge(address, port, now)
        if not isinstance(verdict, Refused):
            self._datagrams.begin(packet, verdict)
            return
        if not self._is_own(packet):
            self._refuse("udp", address, port, verdict)
        if self._takes(address, port, self._swallowing):
            self._inject(packets.unreachable(packet, packets.PORT_UNREACHABLE))

    def _answer(self, asker: tuple[Address, int], answer: bytes) -> None:
        self._inject(packets.datagram((packets.plain(RESOLVER), DNS), asker, answer))

    def _refuse(self, protocol: Protocol, address: Address, port: int, refused: Refused) -> None:
        self._tally.refused(str(address), port, protocol, refused.why)

    def _judge(self, address: Address, port: int, now: float) -> Verdict:
        """Whether the run may reach that; its own addresses mean itself, whoever has them outside."""
        return NOT_ALLOWED if address in _OWN else self._destinations.judge(address, port, now)

    def _takes(self, address: Address, port: int, ports: set[int]) -> bool:
        """Whether what is sent there comes to the relay's sockets on these ports, and not to the run's own."""
        return port in ports or (self._every_port and not (address.is_loopback or address in _OWN))

    def _is_own(self, packet: Packet) -> bool:
        """Whether it goes to the run itself: programs in it may talk to each other."""
        return packet.destination.is_loopback or packet.destination in (packet.source, *_OWN)


_OWN = (packets.plain(OWN_V4), packets.plain(OWN_V6))


def _ports_of(bound: list[socket.socket]) -> set[int]:
    return {each.getsockname()[1] for each in bound}


def _is_resolver(address: Address, port: int) -> bool:
    return port == DNS and str(address) == RESOLVER


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
