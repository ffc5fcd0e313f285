"""Which addresses are refused before anything is allowed, and who says what they are.

What is IPv4 is refused in every form in which it can be written inside an IPv6 address, too (see `embedded`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple

from ringfence.sandbox.policy.addresses import AllowEntry, Network
from ringfence.sandbox.policy.embedded import FORMS, Pattern


class BlockedRange(NamedTuple):
    """Addresses that are refused before anything is allowed, and who says what they are."""

    where: Network | Pattern
    what: str
    source: str


def _blocked(*rows: tuple[str, str, str]) -> tuple[BlockedRange, ...]:
    return tuple(BlockedRange(ip_network(network), what, source) for network, what, source in rows)


NEVER_REACHABLE = _blocked(
    ("127.0.0.0/8", "loopback", "RFC 1122, 3.2.1.3"),
    ("0.0.0.0/8", "this host", "RFC 1122, 3.2.1.3"),
    ("::1/128", "loopback", "RFC 4291, 2.5.3"),
    ("::/128", "the unspecified address", "RFC 4291, 2.5.2"),
    ("::ffff:0:0/96", "IPv4-mapped, which a socket of the host would take for IPv4", "RFC 4291, 2.5.5.2"),
)
"""Refused under every policy; none of these is an address of somebody else."""

_SCOPES = ("reserved", "interface-local", "link-local", "realm-local", "admin-local", "site-local")

LINK_LOCAL_AND_METADATA = (
    *_blocked(
        ("169.254.0.0/16", "link-local, and the metadata of AWS, GCP, Azure, OCI and others", "RFC 3927"),
        ("fe80::/10", "link-local", "RFC 4291, 2.5.6"),
        ("fec0::/10", "site-local, deprecated", "RFC 3879"),
        ("fc00::/7", "unique local, and the IPv6 metadata of AWS (fd00:ec2::254), GCP and OCI", "RFC 4193"),
        ("fd00:ec2::254/128", "instance metadata of AWS", "EC2 user guide, Instance metadata"),
        ("fd20:ce::254/128", "metadata server of Google Cloud", "Compute Engine documentation, VM metadata"),
        ("100.100.100.200/32", "instance metadata of Alibaba Cloud", "ECS user guide, Instance metadata"),
        ("192.0.0.192/32", "instance metadata of Oracle Cloud Classic", "Compute Classic documentation"),
        (
            "168.63.129.16/32",
            "WireServer, the host agent's service of Azure",
            "Azure, What is IP address 168.63.129.16",
        ),
        ("192.0.0.0/24", "services of the network that one is in", "RFC 6890, 2.2.2"),
        ("2001:1::1/128", "whoever translates addresses in the network that one is in", "RFC 7723"),
        ("2001:1::2/128", "a relay of the network that one is in", "RFC 8155"),
        ("192.88.99.0/24", "relays from IPv4 to 6to4, deprecated", "RFC 7526"),
        ("5f00::/16", "instructions to the routers of the network that one is in", "RFC 9602"),
        ("224.0.0.0/24", "link-local multicast", "RFC 5771, 4"),
        ("239.255.0.0/16", "site-local multicast", "RFC 2365, 6.1"),
        ("255.255.255.255/32", "limited broadcast", "RFC 919, 7"),
        ("64:ff9b:1::/48", "translation to IPv4 under a local plan, so to any of the above", "RFC 8215"),
    ),
    *(
        # Whatever the flags, which are the four bits before the scope.
        BlockedRange(Pattern((0xFF00 | scope) << 112, 0xFF0F << 112), f"{name} multicast", "RFC 7346, 2")
        for scope, name in enumerate(_SCOPES)
    ),
)
"""Refused while the policy says `denyLinkLocalAndMetadata`."""


UNIQUE_LOCAL = IPv6Network("fc00::/7")
"""Addresses of private networks, and of some metadata services (RFC 4193)."""


def _inside_ipv6(blocked: BlockedRange) -> Iterator[BlockedRange]:
    if isinstance(blocked.where, IPv4Network):
        for form in FORMS:
            what = f"{blocked.what} (IPv4 {blocked.where} inside IPv6: {form.name})"
            yield BlockedRange(form.around(blocked.where), what, form.source)


def _with_ipv6(ranges: Iterable[BlockedRange]) -> tuple[BlockedRange, ...]:
    every = tuple(ranges)
    return (*every, *(inside for blocked in every for inside in _inside_ipv6(blocked)))


_ALWAYS = _with_ipv6(NEVER_REACHABLE)
_BY_POLICY = _with_ipv6(LINK_LOCAL_AND_METADATA)


def blocked_ranges(deny_link_local_and_metadata: bool) -> tuple[BlockedRange, ...]:
    """All that is refused, the forms inside IPv6 included."""
    return (*_ALWAYS, *(_BY_POLICY if deny_link_local_and_metadata else ()))


class Shadowed(NamedTuple):
    """An entry of the allowlist that stays blocked, and by what."""

    entry: AllowEntry
    blocked: BlockedRange

    def __str__(self) -> str:
        return f"{self.entry} stays blocked: {self.blocked.what} ({self.blocked.where})"


def shadowed(entries: Iterable[AllowEntry], *, deny_link_local_and_metadata: bool) -> tuple[Shadowed, ...]:
    """The entries that have no effect, since all of theirs lies in a blocked range; of several, the widest.

    Nothing is said of an entry that is wider than a blocked range (10.0.0.0/8, 0.0.0.0/0): it was hardly
    written for the sake of what is blocked.
    """
    by_mask: dict[tuple[int, int], dict[int, BlockedRange]] = {}
    for blocked in blocked_ranges(deny_link_local_and_metadata):
        version, value, mask = _bits(blocked.where)
        by_mask.setdefault((version, mask), {}).setdefault(value, blocked)
    # The widest first: of two masks, the one with fewer bits.
    tables = sorted(by_mask.items(), key=lambda table: table[0][1].bit_count())
    found = []
    for entry in entries:
        version, value, netmask = _bits(entry.network)
        for (of, mask), table in tables:
            if of == version and mask & netmask == mask and value & mask in table:
                found.append(Shadowed(entry, table[value & mask]))
                break
    return tuple(found)


def _bits(where: Network | Pattern) -> tuple[int, int, int]:
    """The IP version, and which bits an address has there under which mask."""
    if isinstance(where, Pattern):
        return 6, where.value, where.mask
    return where.version, int(where.network_address), int(where.netmask)
