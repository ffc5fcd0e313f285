"""What egress a run gets: a pure decision from the policy, the plumbing that there is, and the host's resolvers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Literal

from ringfence.sandbox.egress.link.macvlan import MacvlanSettings
from ringfence.sandbox.egress.link.ruleset import (
    Everything,
    Link,
    Listed,
    Reach,
    Ruleset,
    build_ruleset,
    overlaps,
)
from ringfence.sandbox.egress.relaying.orders import Orders
from ringfence.sandbox.egress.relaying.resolv_conf import named
from ringfence.sandbox.policy.addresses import Address, AllowEntry, Network
from ringfence.sandbox.policy.blocked import Shadowed, shadowed

SLIRP_NETWORKS = tuple(
    IPv4Network(text) for text in ("198.19.254.0/24", "10.0.2.0/24", "172.31.254.0/24", "192.168.254.0/24")
)
"""Where a userspace stack puts its gateway and the script, in the order of preference.

Whoever is really there cannot be reached, so the first is of a range that nobody lives in (RFC 2544, for
measurements), and one that holds an entry of the allowlist is passed over.
"""

SLIRP_IPV6 = IPv6Network("fd00::/64")
"""The IPv6 network of slirp4netns, which cannot be configured."""

GATEWAY, RESOLVER, SCRIPT = 2, 3, 100
"""The hosts of a slirp network (slirp4netns(1)); the gateway would be the host's loopback."""

MTU = 65520
"""What a tap allows and slirp4netns recommends: fewer, larger packets between kernel and userspace."""

DNS = 53
MOST_NAMESERVERS = 3
"""The resolver of libc reads no more (resolv.conf(5), MAXNS)."""


@dataclass(frozen=True, slots=True)
class HostNetwork:
    """What the run's link depends on in the host.

    Attributes:
        resolvers: the host's name servers, as its resolv.conf lists them.
        has_ipv6: whether the host has an IPv6 address that reaches beyond its links.
        speaks_ipv6: whether its kernel knows IPv6 at all; if not, no link can have it.
        lists_pairs: whether its kernel and its nft know sets of networks together with ports (Linux 5.6, nft 0.9.4).
        read: whether all of this could be read.
    """

    resolvers: tuple[Address, ...] = ()
    has_ipv6: bool = False
    speaks_ipv6: bool = True
    lists_pairs: bool = True
    read: bool = True


@dataclass(frozen=True, slots=True)
class Slirp:
    """A link by slirp4netns.

    Attributes:
        program: its path.
        network: the IPv4 network of the link.
        ipv6: whether the link has IPv6, at `SLIRP_IPV6`.
        dns: whether its resolver passes queries on to the host's.
        own_device: whether it gets a `/dev/net/tun` of its own, in a mount namespace of its own: the host's is
            kept for root, and neither opened up nor a reason to run the stack as root.
    """

    program: str
    network: IPv4Network = SLIRP_NETWORKS[0]
    ipv6: bool = False
    dns: bool = False
    own_device: bool = False
    name: Literal["slirp4netns"] = "slirp4netns"


@dataclass(frozen=True, slots=True)
class Pasta:
    """A link by pasta, where slirp4netns is not to be had; the attributes mean what they mean there."""

    program: str
    network: IPv4Network = SLIRP_NETWORKS[0]
    ipv6: bool = False
    dns: bool = False
    own_device: bool = False
    name: Literal["pasta"] = "pasta"


@dataclass(frozen=True, slots=True)
class Macvlan:
    """A link by an interface of its own on the host's network; `ipv6` is whether it gets that too."""

    settings: MacvlanSettings
    ipv6: bool = False
    name: Literal["macvlan"] = "macvlan"


@dataclass(frozen=True, slots=True)
class Relay:
    """A link by relay: the run's network has no way out, and a process outside makes its connections for it.

    `nameservers` is what the script's resolv.conf names.
    """

    orders: Orders
    nameservers: tuple[str, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Sandboxes are looked up by it several times in each run, and there may be thousands of entries.
        object.__setattr__(self, "_hash", hash((self.orders, self.nameservers)))

    def __hash__(self) -> int:
        return self._hash


Plumbing = Slirp | Pasta | Macvlan


@dataclass(frozen=True, slots=True)
class EgressPlan:
    """What `gate` and `attach` need, and what is told of it.

    Attributes:
        ruleset: the filter; it is the same whatever the plumbing.
        plumbing: the link.
        nameservers: what the script's resolv.conf names; all of them are within the filter.
        shadowed: entries of the allowlist that stay blocked.
        without_ipv6: entries of the allowlist that cannot be reached, since the host knows no IPv6.
    """

    ruleset: Ruleset
    plumbing: Plumbing
    nameservers: tuple[str, ...] = ()
    shadowed: tuple[Shadowed, ...] = ()
    without_ipv6: tuple[AllowEntry, ...] = ()


def egress_plan(
    reach: Reach,
    *,
    deny_link_local_and_metadata: bool,
    plumbing: Plumbing,
    host: HostNetwork,
) -> EgressPlan:
    """The egress of a run with this reach, over this plumbing (of which network, IPv6 and DNS are decided here).

    DNS: names are resolved only as the policy lets them be. An allowlist has to name a resolver (its address,
    port 53) like any other destination: a query is a message to whoever owns the name, and so a way out.
    Without an allowlist the plumbing's own resolver passes queries on, which also spares the script the
    host's loopback and link-local resolvers, where it cannot go.
    """
    entries = reach.entries if isinstance(reach, Listed) else ()
    wanted = host.has_ipv6 if isinstance(reach, Everything) else any(e.network.version == 6 for e in entries)
    ipv6 = wanted and host.speaks_ipv6
    dns = isinstance(reach, Everything) and bool(host.resolvers)
    link, plumbing = _link(plumbing, [entry.network for entry in entries], ipv6, dns)
    ruleset = build_ruleset(
        reach,
        deny_link_local_and_metadata=deny_link_local_and_metadata,
        link=link,
        pairs=host.lists_pairs,
    )
    resolvers = (link.resolver,) if link.resolver is not None else host.resolvers
    return EgressPlan(
        ruleset=ruleset,
        plumbing=plumbing,
        nameservers=tuple(str(each) for each in resolvers if ruleset.permits(each, DNS))[:MOST_NAMESERVERS],
        shadowed=shadowed(entries, deny_link_local_and_metadata=deny_link_local_and_metadata),
        without_ipv6=() if host.speaks_ipv6 else tuple(e for e in entries if e.network.version == 6),
    )


def _link(plumbing: Plumbing, listed: Iterable[Network], ipv6: bool, dns: bool) -> tuple[Link, Plumbing]:
    if isinstance(plumbing, Macvlan):
        settings = plumbing.settings
        networks = [settings.ipv6.network] if ipv6 and settings.ipv6 is not None else []
        on_link = tuple(network for network in networks if isinstance(network, IPv6Network))
        return Link(on_link=on_link), Macvlan(settings, ipv6=bool(on_link))
    network = _free_network(listed)
    link = Link(
        closed=(network, SLIRP_IPV6),
        on_link=(SLIRP_IPV6,) if ipv6 else (),
        resolver=network[RESOLVER] if dns else None,
    )
    kind = type(plumbing)
    return link, kind(plumbing.program, network, ipv6, dns, plumbing.own_device)


def _free_network(listed: Iterable[Network]) -> IPv4Network:
    """The first network without an entry in it; the first of all if every one has some.

    A wide entry (10.0.0.0/8, 0.0.0.0/0) does not count: it does not need just that part of it.
    """
    wanted = [network for network in listed if network.prefixlen >= SLIRP_NETWORKS[0].prefixlen]
    for network in SLIRP_NETWORKS:
        if not any(overlaps(network, entry) for entry in wanted):
            return network
    return SLIRP_NETWORKS[0]


def resolvers_of(resolv_conf: str) -> tuple[Address, ...]:
    """The name servers of a resolv.conf, in its order; what is no address (a zone id) is passed over."""
    found = map(_address, named(resolv_conf))
    return tuple(address for address in found if address is not None)


def _address(text: str) -> Address | None:
    try:
        network = ip_network(text)
    except ValueError:
        return None
    address: IPv4Address | IPv6Address = network.network_address
    return address if network.num_addresses == 1 and "%" not in text else None
