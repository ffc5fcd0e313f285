"""Where a run may connect to: decided anew for each connection, without a socket or a clock.

Threat: a script reaches what the policy did not name: by an address of its own choosing, by another port, by a name
whose owner lets it mean the machine's own network or the metadata service ("rebinding").
Mechanism: an address is open if the policy lists it, or if the relay itself has answered it to the run for a listed
name, for the ports that are listed there. What is blocked is judged first, and for what names mean more is blocked than
for listed addresses: nobody but the administrator has chosen the latter.
Not covered: several names at one address. Who may connect to one of them reaches the machine that serves all of
them, but for what `server_name` sees.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from .orders import BlockedOrder, NameOrder, Orders, Ports, holds

Address = IPv4Address | IPv6Address

LEAST_OPEN_S = 300.0
"""How long an address stays open after it was answered for a name, however short-lived the answer is: programs
remember addresses for longer than they should."""

MOST_OPENED = 4096
"""So many addresses can be open at once by names; the one that was answered longest ago makes room."""


LOCAL = (ip_address("127.0.0.1"), ip_address("::1"))
"""Where services of the host's own loopback are. Other addresses of it (127.0.0.53) have services of their own."""


@dataclass(frozen=True, slots=True)
class Open:
    """A connection that may be made.

    `name` is one by which the address was opened; None if the policy lists it. `local` is whether it is a port of the
    host's own loopback.
    """

    name: str | None = None
    local: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A connection that may not be made, and why."""

    why: str


NOT_ALLOWED = Refused("not allowed")

Verdict = Open | Refused


@dataclass(slots=True)
class _Opened:
    """An address that names have opened: until when, and for which ports, by each of them."""

    names: dict[str, tuple[float, list[Ports | None]]] = field(default_factory=dict)


class Destinations:
    """What a run may reach at this moment."""

    def __init__(self, orders: Orders) -> None:
        """Begin with what is listed by address."""
        self._everything = orders.everything
        self._exact: dict[str, list[NameOrder]] = {}
        self._beneath: dict[str, list[NameOrder]] = {}
        for each in orders.names:
            kept = self._beneath if each.wildcard else self._exact
            kept.setdefault(each.name, []).append(each)
        self._local = orders.local
        self._networks: dict[tuple[int, int], dict[int, list[Ports | None]]] = {}
        for network in orders.networks:
            bits = 32 if network.version == 4 else 128
            key = network.version, bits - network.prefix
            self._networks.setdefault(key, {}).setdefault(network.value >> key[1], []).append(network.ports)
        self._blocked: dict[tuple[int, int], dict[int, BlockedOrder]] = {}
        for blocked in orders.blocked:
            self._blocked.setdefault((blocked.version, blocked.mask), {})[blocked.value] = blocked
        self._opened: dict[Address, _Opened] = {}

    def judge(self, address: Address, port: int, now: float) -> Verdict:
        """Whether the run may connect to that port there."""
        if address in LOCAL and holds(self._local, port):
            return Open(local=True)
        if (blocked := self._blocks(address, by_name=False)) is not None:
            return blocked
        if self._everything:
            return Open()
        listed = self._listed(address)
        if any(holds(ports, port) for ports in listed):
            return Open()
        for name, ports in self._opened_by(address, now):
            if any(holds(some, port) for some in ports):
                return Open(name)
        return NOT_ALLOWED

    def permits_host(self, address: Address, now: float) -> Verdict:
        """Whether the run may see if that host is there (an ICMP echo): if any port of it is open."""
        if (blocked := self._blocks(address, by_name=False)) is not None:
            return blocked
        if self._everything or self._listed(address):
            return Open()
        return next((Open(name) for name, _ in self._opened_by(address, now)), NOT_ALLOWED)

    def permits_name(self, name: str) -> bool:
        """Whether what a name means may be asked for. The name is in lower case, without a dot at its end."""
        return self._everything or any(True for _ in self._orders_for(name))

    def permits_server_name(self, name: str, port: int) -> bool:
        """Whether a TLS client may say that name to a server on that port."""
        return any(holds(each.ports, port) for each in self._orders_for(name))

    def open(
        self, name: str, addresses: Iterable[Address], ttl: float, now: float
    ) -> tuple[tuple[Address, ...], tuple[tuple[Address, str], ...]]:
        """Open what a listed name means, on its ports; which of the addresses are open now, and which not, and why."""
        ports = [each.ports for each in self._orders_for(name)]
        opened: list[Address] = []
        refused: list[tuple[Address, str]] = []
        for address in addresses:
            if (blocked := self._blocks(address, by_name=True)) is not None:
                refused.append((address, blocked.why))
                continue
            opened.append(address)
            if self._everything:
                continue
            # The one that was answered last is the last to make room.
            kept = self._opened.pop(address, None) or _Opened()
            kept.names[name] = now + max(ttl, LEAST_OPEN_S), ports
            self._opened[address] = kept
            while len(self._opened) > MOST_OPENED:
                del self._opened[next(iter(self._opened))]
        return tuple(opened), tuple(refused)

    def _orders_for(self, name: str) -> Iterator[NameOrder]:
        yield from self._exact.get(name, ())
        _, dot, parent = name.partition(".")
        while dot:
            yield from self._beneath.get(parent, ())
            _, dot, parent = parent.partition(".")

    def _opened_by(self, address: Address, now: float) -> Iterator[tuple[str, list[Ports | None]]]:
        opened = self._opened.get(address)
        for name, (until, ports) in opened.names.items() if opened is not None else ():
            if now < until:
                yield name, ports

    def _listed(self, address: Address) -> list[Ports | None]:
        found: list[Ports | None] = []
        for (version, shift), networks in self._networks.items():
            if version == address.version:
                found += networks.get(int(address) >> shift, ())
        return found

    def _blocks(self, address: Address, *, by_name: bool) -> Refused | None:
        for (version, mask), blocked in self._blocked.items():
            found = blocked.get(int(address) & mask) if version == address.version else None
            if found is not None and (by_name or found.always):
                return Refused(f"blocked: {found.what}")
        return None
