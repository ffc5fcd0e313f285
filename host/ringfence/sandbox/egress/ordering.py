"""What a relay is told of a policy: a pure translation into plain numbers (see `relaying.orders`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ringfence.sandbox.egress.relaying.inside.whereabouts import MOST_LISTENERS
from ringfence.sandbox.egress.relaying.orders import (
    BlockedOrder,
    NameOrder,
    NetworkOrder,
    Orders,
    Ports,
)
from ringfence.sandbox.policy import Network, NetworkMode
from ringfence.sandbox.policy.addresses import PortRange
from ringfence.sandbox.policy.blocked import UNIQUE_LOCAL, BlockedRange, blocked_ranges
from ringfence.sandbox.policy.destinations import joined_ports
from ringfence.sandbox.policy.embedded import Pattern


def orders_of(network: Network, *, nft: str = "") -> Orders:
    """The orders for a policy; `nft` is the program by which any port is taken, if that is to be."""
    networks = tuple(
        NetworkOrder(
            entry.network.version,
            int(entry.network.network_address),
            entry.network.prefixlen,
            _ports(entry.ports),
        )
        for entry in network.entries
    )
    names = tuple(NameOrder(entry.name, entry.wildcard, _ports(entry.ports)) for entry in network.names)
    everything = network.mode is NetworkMode.UNRESTRICTED
    if everything:
        networks, names = (), ()
    return Orders(
        everything=everything,
        networks=networks,
        names=names,
        local=tuple(
            (ports.first, ports.last)
            for ports in joined_ports(each for entry in network.local for each in entry.ports)
        ),
        blocked=tuple(_blocked(network.deny_link_local_and_metadata, named=bool(names))),
        checks_server_name=network.check_server_name,
        every_port=bool(nft),
        nft=nft,
    )


def takes_every_port(network: Network) -> bool:
    """Whether connections to any port have to be taken: all are open, an entry names none, or there are too many."""
    if network.mode is NetworkMode.UNRESTRICTED:
        return True
    listed = [each.ports for each in network.entries] + [each.ports for each in network.names]
    if any(ports is None for ports in listed):
        return True
    named = [ports for some in listed for ports in _ranges(some)]
    local = [ports for entry in network.local for ports in entry.ports]
    return any(
        sum(ports.last - ports.first + 1 for ports in joined_ports(some)) > MOST_LISTENERS
        for some in (named, local)
    )


def _ports(ports: PortRange | Iterable[PortRange] | None) -> Ports | None:
    return None if ports is None else tuple((each.first, each.last) for each in _ranges(ports))


def _ranges(ports: PortRange | Iterable[PortRange] | None) -> Iterable[PortRange]:
    return (ports,) if isinstance(ports, PortRange) else ports or ()


def _blocked(deny: bool, *, named: bool) -> Iterator[BlockedOrder]:
    always = set(blocked_ranges(deny))
    for each in blocked_ranges(deny or named):
        if each in always or each.where != UNIQUE_LOCAL:
            # What a policy opens for its addresses, it opens for no name: but private networks have names.
            yield _order(each, always=each in always)


def _order(blocked: BlockedRange, *, always: bool) -> BlockedOrder:
    where = blocked.where
    if isinstance(where, Pattern):
        return BlockedOrder(6, where.value, where.mask, blocked.what, always)
    return BlockedOrder(where.version, int(where.network_address), int(where.netmask), blocked.what, always)
