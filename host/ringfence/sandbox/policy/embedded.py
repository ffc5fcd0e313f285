"""Every known form in which an IPv4 address is written inside an IPv6 one.

Somewhere on the way of a packet to such an address a translator, a relay or the end of a tunnel may take the IPv4
address out and send the packet, or what is in it, there. Not covered: prefixes that an operator chose for a network of
its own, which no address shows (NAT64 under a network-specific prefix, RFC 6052 section 2.2; 6rd, RFC 5969).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

from ringfence.sandbox.policy.addresses import Network


class Pattern(NamedTuple):
    """The IPv6 addresses that have the bits of `value` wherever `mask` has ones."""

    value: int
    mask: int

    def __contains__(self, address: object) -> bool:
        return isinstance(address, IPv6Address) and int(address) & self.mask == self.value

    def is_within(self, network: IPv6Network) -> bool:
        """Whether all its addresses are in that network."""
        known = int(network.netmask)
        return self.mask & known == known and self.value & known == int(network.network_address)

    def __str__(self) -> str:
        return f"{IPv6Address(self.value)} under the mask {IPv6Address(self.mask)}"


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write IPv4 addresses inside IPv6 ones.

    Attributes:
        name: what it is called.
        fixed: what all its addresses have in common.
        places: where the bits of the IPv4 address are, from the first to the last: the number of the first bit of a
            stretch, counted from the left, and how many there are.
        source: who says so.
        inverted: whether each bit of the IPv4 address is written as its opposite.
        on_the_wire: whether packets may have such a destination at all.
    """

    name: str
    fixed: Pattern
    places: tuple[tuple[int, int], ...]
    source: str
    inverted: bool = False
    on_the_wire: bool = True

    def around(self, ipv4: IPv4Network) -> IPv6Network | Pattern:
        """All the addresses of this form that hold one of those IPv4 addresses."""
        address, netmask = int(ipv4.network_address), int(ipv4.netmask)
        value, mask = self.fixed
        taken = 0
        for first, count in self.places:
            shift = 128 - first - count
            part = _bits(address ^ (2**32 - 1) if self.inverted else address, taken, count)
            known = _bits(netmask, taken, count)
            value |= (part & known) << shift
            mask |= known << shift
            taken += count
        return _network_or_pattern(value, mask)

    def within(self, network: IPv6Network) -> IPv4Network | None:
        """The IPv4 network that an IPv6 network of this form stands for; None if it is of none, or stands for more."""
        bits, netmask = int(network.network_address), int(network.netmask)
        if self.fixed.mask & netmask != self.fixed.mask or bits & self.fixed.mask != self.fixed.value:
            return None
        address = known = 0
        for first, count in self.places:
            address = address << count | _bits(bits, first, count, of=128)
            known = known << count | _bits(netmask, first, count, of=128)
        if self.inverted:
            address = ~address & known
        return IPv4Network((address, known.bit_count()))


def _bits(number: int, first: int, count: int, of: int = 32) -> int:
    """`count` bits of a number of `of` bits, from the `first` one, counted from the left."""
    return number >> (of - first - count) & (1 << count) - 1


def _network_or_pattern(value: int, mask: int) -> IPv6Network | Pattern:
    prefix = mask.bit_count()
    return IPv6Network((value, prefix)) if mask == (1 << prefix) - 1 << 128 - prefix else Pattern(value, mask)


def _under(text: str) -> Pattern:
    network = IPv6Network(text)
    return Pattern(int(network.network_address), int(network.netmask))


_THIS_HOST = IPv4Network("0.0.0.0/8")
_LAST = ((96, 32),)
_LOCAL_NAT64 = "RFC 8215; RFC 6052, 2.2"

FORMS = (
    Form("IPv4-mapped", _under("::ffff:0:0/96"), _LAST, "RFC 4291, 2.5.5.2", on_the_wire=False),
    Form("IPv4-compatible", _under("::/96"), _LAST, "RFC 4291, 2.5.5.1", on_the_wire=False),
    Form("IPv4-translated", _under("::ffff:0:0:0/96"), _LAST, "RFC 2765, 2.1", on_the_wire=False),
    Form("NAT64", _under("64:ff9b::/96"), _LAST, "RFC 6052, 2.1"),
    # Bits 64 to 71 are to be zero, but a translator need not look.
    Form("local NAT64 (/48)", _under("64:ff9b:1::/48"), ((48, 16), (72, 16)), _LOCAL_NAT64),
    Form("local NAT64 (/56)", _under("64:ff9b:1::/48"), ((56, 8), (72, 24)), _LOCAL_NAT64),
    Form("local NAT64 (/64)", _under("64:ff9b:1::/48"), ((72, 32),), _LOCAL_NAT64),
    Form("local NAT64 (/96)", _under("64:ff9b:1::/48"), _LAST, _LOCAL_NAT64),
    Form("6to4", _under("2002::/16"), ((16, 32),), "RFC 3056, 2"),
    Form("Teredo, as the server", _under("2001::/32"), ((32, 32),), "RFC 4380, 4"),
    Form("Teredo, as the client", _under("2001::/32"), _LAST, "RFC 4380, 4", inverted=True),
    # Under any prefix. The bit that the mask leaves out says whether the IPv4 address is unique in the world.
    Form("ISATAP", Pattern(0x5EFE << 32, 0xFDFF_FFFF << 32), _LAST, "RFC 5214, 6.1"),
)
"""The forms of which IANA's registries and the standards know. Sources: the RFC, and the section in it."""


def plain_ipv4(network: Network) -> tuple[Form, IPv4Network] | None:
    """The form of an IPv6 network that no packet has as its destination, and the IPv4 network that it stands for.

    None for other networks, and for `::1` and what else no IPv4 address has as its other spelling.
    """
    if isinstance(network, IPv6Network):
        for form in FORMS:
            found = None if form.on_the_wire else form.within(network)
            if found is not None and not found.subnet_of(_THIS_HOST):
                return form, found
    return None
