"""Which packets leave a run's network namespace: one nftables ruleset, whatever the plumbing beneath.

Threat: a script connects to what the policy did not name: a cloud's metadata service (and with it the
machine's own credentials), the host's loopback services through the gateway, neighbours on the link.
Mechanism: an `inet` table in the run's own network namespace that drops by default in every direction, loaded
before the namespace has a link, by a process that has ended before the script starts; the script's user
namespace has no capability over it. Every outgoing packet is judged by its own destination, without memory of
earlier ones, so that nothing that was once let through opens the way for something else.

The ruleset is a value first (`Ruleset`), which can be asked (`judge`) and tested without a kernel; `nftables` makes
text for nft of it. What it does not cover: what an allowed destination passes on to others, and what is said
within an allowed connection (names are for a relay alone: entries are addresses here); and a
translator to IPv4 under a prefix that only its operator knows (see `embedded`). The host's own addresses, but for
its loopback, are addresses like any other: where everything is allowed, so are they.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import NamedTuple, TypeVar

from ringfence.sandbox.policy.addresses import Address, AllowEntry, Network, PortRange
from ringfence.sandbox.policy.blocked import blocked_ranges
from ringfence.sandbox.policy.embedded import Pattern

DNS_PORT = PortRange(53, 53)

MOST_IN_A_RULE = 1000
"""How much a single rule may list, so that one fits into a message to the kernel (see `nftables`)."""

MOST_PORT_RULES = 16
"""How many rules of an address family there may be that each list networks with the same ports; what has yet other
ports is listed with them, pair by pair."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Only what the entries name may be reached."""

    entries: tuple[AllowEntry, ...]


@dataclass(frozen=True, slots=True)
class Everything:
    """Whatever is not blocked may be reached."""


Reach = Listed | Everything


@dataclass(frozen=True, slots=True)
class Link:
    """What the plumbing puts on the other side of the link.

    Attributes:
        closed: addresses that only the plumbing itself answers on, as which it would reach the host's own
            loopback; never open, but for `resolver`.
        on_link: IPv6 networks of which every address is a neighbour, so that neighbour discovery may name it.
        resolver: where the plumbing answers DNS, if it does and the policy lets it; port 53 there is open.
    """

    closed: tuple[Network, ...] = ()
    on_link: tuple[IPv6Network, ...] = ()
    resolver: Address | None = None


class Protocol(enum.Enum):
    """What a packet carries, as far as rules tell it apart."""

    TCP = "tcp"
    UDP = "udp"
    NEIGHBOUR_DISCOVERY = "nd"
    OTHER = "other"


class Verdict(enum.Enum):
    """What becomes of a packet."""

    ACCEPT = "accept"
    REFUSE = "refuse"


class Packet(NamedTuple):
    """An outgoing packet, as far as rules look at it.

    `loopback` is whether it stays in the namespace; `routed` is whether it says itself by which way it is to go
    on from `destination` (IPv4 options, an IPv6 routing header).
    """

    destination: Address
    protocol: Protocol
    port: int | None = None
    loopback: bool = False
    routed: bool = False


class Pair(NamedTuple):
    """TCP and UDP ports of a network."""

    network: Network
    ports: PortRange

    def holds(self, packet: Packet) -> bool:
        """Whether the packet goes there."""
        return packet.destination in self.network and packet.port in self.ports


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the output chain: packets to any of `destinations` get `verdict`.

    Attributes:
        destinations: of one family, without overlaps; empty means every packet.
        patterns: only packets to an IPv6 address that fits one of these, of one mask; empty means every packet.
        ports: only TCP and UDP packets to these, without overlaps; empty means whatever the packet carries.
        pairs: only TCP and UDP packets to one of these, of one family, without overlaps; empty means every packet.
        loopback: only packets that stay within the namespace.
        neighbour_discovery: only neighbour discovery, which none but the kernel can send from there.
        routed: only packets of this IP version (4 or 6) that say by which way they are to go on.
    """

    verdict: Verdict
    destinations: tuple[Network, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    ports: tuple[PortRange, ...] = ()
    pairs: tuple[Pair, ...] = ()
    loopback: bool = False
    neighbour_discovery: bool = False
    routed: int | None = None

    def matches(self, packet: Packet) -> bool:
        """Whether this rule is about that packet."""
        if self.loopback and not packet.loopback:
            return False
        if self.neighbour_discovery and packet.protocol is not Protocol.NEIGHBOUR_DISCOVERY:
            return False
        if self.routed is not None and not (packet.routed and packet.destination.version == self.routed):
            return False
        if (self.ports or self.pairs) and packet.protocol not in (Protocol.TCP, Protocol.UDP):
            return False
        if self.ports and not any(packet.port in ports for ports in self.ports):
            return False
        if self.pairs and not any(pair.holds(packet) for pair in self.pairs):
            return False
        if self.patterns and not any(packet.destination in pattern for pattern in self.patterns):
            return False
        return not self.destinations or any(packet.destination in network for network in self.destinations)


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The whole filter of one run; `output` is judged from the first rule to the last, then dropped."""

    output: tuple[Rule, ...]
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Sandboxes are looked up by it several times in each run, and there may be thousands of networks.
        object.__setattr__(self, "_hash", hash(self.output))

    def __hash__(self) -> int:
        return self._hash

    def judge(self, packet: Packet) -> Verdict:
        """What becomes of an outgoing packet."""
        for rule in self.output:
            if rule.matches(packet):
                return rule.verdict
        return Verdict.REFUSE

    def permits(self, destination: Address, port: int) -> bool:
        """Whether a UDP or TCP packet to that port gets out."""
        return self.judge(Packet(destination, Protocol.UDP, port)) is Verdict.ACCEPT


def build_ruleset(
    reach: Reach, *, deny_link_local_and_metadata: bool, link: Link, pairs: bool = True
) -> Ruleset:
    """The filter for a policy over a link: what is blocked comes first, what is allowed after it.

    An entry within a blocked range stays blocked; `shadowed` names it. Without `pairs`, which not every kernel
    has, what would be listed pair by pair gets a rule for each set of ports instead: the same verdicts, but slower.
    """
    blocked = [each.where for each in blocked_ranges(deny_link_local_and_metadata)]
    neighbours = (IPv6Network("fe80::/10"), IPv6Network("ff02::/16"), *link.on_link)
    return Ruleset(
        (
            Rule(Verdict.ACCEPT, loopback=True),
            # Its destination would be an allowed one, and what it is sent on to by the header inside is not seen.
            Rule(Verdict.REFUSE, routed=4),
            Rule(Verdict.REFUSE, routed=6),
            *_rules(Verdict.ACCEPT, neighbours, neighbour_discovery=True),
            *(
                _rules(Verdict.ACCEPT, [ip_network(link.resolver)], ports=(DNS_PORT,))
                if link.resolver is not None
                else ()
            ),
            *_refused([*link.closed, *blocked], patterns=_may_reach_ipv6(reach)),
            *_accepted(reach, MOST_PORT_RULES if pairs else None),
            Rule(Verdict.REFUSE),
        )
    )


def _may_reach_ipv6(reach: Reach) -> bool:
    """Whether any IPv6 packet is accepted; if not, none need be refused by name, and a run starts sooner."""
    return isinstance(reach, Everything) or any(entry.network.version == 6 for entry in reach.entries)


def _refused(blocked: Sequence[Network | Pattern], *, patterns: bool) -> Iterator[Rule]:
    """Rules for the networks, and one for each mask of the patterns, as nftables has it."""
    networks = [each for each in blocked if not isinstance(each, Pattern)]
    yield from _rules(Verdict.REFUSE, networks)
    if not patterns:
        return
    around = [network for network in networks if isinstance(network, IPv6Network)]
    by_mask: dict[int, set[Pattern]] = {}
    for each in blocked:
        if isinstance(each, Pattern) and not any(each.is_within(network) for network in around):
            by_mask.setdefault(each.mask, set()).add(each)
    for same in by_mask.values():
        yield Rule(Verdict.REFUSE, patterns=tuple(sorted(same)))


def _accepted(reach: Reach, most_port_rules: int | None) -> Iterator[Rule]:
    if isinstance(reach, Everything):
        yield Rule(Verdict.ACCEPT)
        return
    yield from _rules(Verdict.ACCEPT, (entry.network for entry in reach.entries if entry.ports is None))
    listed: dict[Network, list[PortRange]] = {}
    for entry in reach.entries:
        if entry.ports is not None:
            listed.setdefault(entry.network, []).append(entry.ports)
    merged = {network: _merged(ports) for network, ports in listed.items()}
    for version in (4, 6):
        of_family = {network: ports for network, ports in merged.items() if network.version == version}
        yield from _on_ports(of_family, most_port_rules)


def _on_ports(listed: Mapping[Network, tuple[PortRange, ...]], most_rules: int | None) -> Iterator[Rule]:
    """Rules for networks of one family with their ports: the largest groups with the same ports have their own."""
    by_ports: dict[tuple[PortRange, ...], list[Network]] = {}
    for network, ports in listed.items():
        by_ports.setdefault(ports, []).append(network)
    groups = sorted(by_ports.items(), key=lambda group: len(group[1]), reverse=True)
    grouped = groups if most_rules is None or len(groups) <= most_rules else groups[:most_rules]
    for ports, networks in grouped:
        yield from _rules(Verdict.ACCEPT, networks, ports=ports)
    rest = [network for _, networks in groups[len(grouped) :] for network in networks]
    for layer in _layers(rest):
        pairs = [Pair(network, ports) for network in layer for ports in listed[network]]
        for some in _batches(pairs):
            yield Rule(Verdict.ACCEPT, pairs=some)


def _merged(ranges: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """The same ports in rising order, without overlaps and without neighbours."""
    found: list[PortRange] = []
    for ports in sorted(ranges):
        if found and ports.first <= found[-1].last + 1:
            found[-1] = PortRange(found[-1].first, max(found[-1].last, ports.last))
        else:
            found.append(ports)
    return tuple(found)


def _layers(networks: Iterable[Network]) -> list[list[Network]]:
    """Networks of one family, sorted into layers of which none has overlaps: the kernel takes no other sets of pairs.

    Two networks overlap only if one holds the other; so a network's layer is the number of those that hold it.
    """
    layers: list[list[Network]] = []
    around: list[int] = []
    for network in sorted(networks, key=lambda each: (int(each.network_address), each.prefixlen)):
        while around and around[-1] < int(network.network_address):
            around.pop()
        if len(around) == len(layers):
            layers.append([])
        layers[len(around)].append(network)
        around.append(int(network.broadcast_address))
    return layers


def _rules(
    verdict: Verdict,
    networks: Iterable[Network],
    *,
    ports: tuple[PortRange, ...] = (),
    neighbour_discovery: bool = False,
) -> Iterator[Rule]:
    """Rules for each family that occurs; overlapping networks are merged, as nftables wants them."""
    every = list(networks)
    families: Sequence[tuple[Network, ...]] = (
        tuple(collapse_addresses(network for network in every if isinstance(network, IPv4Network))),
        tuple(collapse_addresses(network for network in every if isinstance(network, IPv6Network))),
    )
    for family in families:
        for destinations, some in itertools.product(_batches(family), _batches(ports) if ports else [()]):
            yield Rule(verdict, destinations, ports=some, neighbour_discovery=neighbour_discovery)


_T = TypeVar("_T")


def _batches(listed: Sequence[_T]) -> Iterator[tuple[_T, ...]]:
    """What is listed, in parts that fit into a rule."""
    for start in range(0, len(listed), MOST_IN_A_RULE):
        yield tuple(listed[start : start + MOST_IN_A_RULE])


def overlaps(one: Network, other: Network) -> bool:
    """Whether two networks, of whichever families, have an address in common."""
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)
