"""Where runs live on the host's own network: the addressing that an admin configures for macvlan links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
)

ACCEPTED = (
    "PARENT FIRST[-LAST]/PREFIX via GATEWAY, with a second such range for IPv6 after it if there is one: "
    "'eth0 192.0.2.100-192.0.2.131/24 via 192.0.2.1 2001:db8::100-2001:db8::11f/64 via 2001:db8::1'"
)
MOST_ADDRESSES = 4096
INTERFACE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")


class MacvlanSettingsError(ValueError):
    """Addressing that cannot be used; the message says why and what is accepted."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(f"{text!r}: {problem}; the accepted form is {ACCEPTED}")


@dataclass(frozen=True, slots=True)
class AddressRange:
    """The addresses that runs may have, one each, and how they leave their network."""

    first: IPv4Address | IPv6Address
    count: int
    network: IPv4Network | IPv6Network
    gateway: IPv4Address | IPv6Address

    def interface(self, index: int) -> IPv4Interface | IPv6Interface:
        """The address with its prefix length that the run in that place has."""
        return ip_interface(f"{self.first + index}/{self.network.prefixlen}")


@dataclass(frozen=True, slots=True)
class MacvlanSettings:
    """The parent interface and the ranges; a run has the same place in both, so the smaller one bounds them."""

    parent: str
    ipv4: AddressRange
    ipv6: AddressRange | None = None

    @property
    def places(self) -> int:
        """How many runs can have a link at once."""
        return min(self.ipv4.count, self.ipv6.count if self.ipv6 is not None else self.ipv4.count)

    @classmethod
    def parse(cls, text: str) -> MacvlanSettings:
        """Read the setting.

        Raises:
            MacvlanSettingsError: saying what is wrong.
        """
        words = text.split()
        if len(words) not in (4, 7) or words[2] != "via" or words[5:6] not in ([], ["via"]):
            raise MacvlanSettingsError(text, "it does not have the accepted form")
        if not INTERFACE.fullmatch(words[0]):
            raise MacvlanSettingsError(text, f"{words[0]!r} is not the name of an interface")
        ipv4 = _range(text, words[1], words[3], 4)
        ipv6 = _range(text, words[4], words[6], 6) if len(words) == 7 else None
        return cls(words[0], ipv4, ipv6)


def _range(text: str, addresses: str, gateway_text: str, version: int) -> AddressRange:
    span, _, prefix = addresses.partition("/")
    first_text, _, last_text = span.partition("-")
    try:
        first, last = ip_address(first_text), ip_address(last_text or first_text)
        gateway = ip_address(gateway_text)
        network = ip_interface(f"{first}/{prefix}").network if prefix.isdecimal() else None
    except ValueError as error:
        raise MacvlanSettingsError(text, str(error)) from None
    if network is None:
        raise MacvlanSettingsError(text, f"{addresses!r} has no prefix length")
    if not first.version == last.version == gateway.version == version:
        raise MacvlanSettingsError(
            text, f"the {'first' if version == 4 else 'second'} range must be IPv{version}"
        )
    if last not in network or gateway not in network:
        raise MacvlanSettingsError(text, f"the range and the gateway must be within {network}")
    count = int(last) - int(first) + 1
    if not 1 <= count <= MOST_ADDRESSES:
        raise MacvlanSettingsError(
            text, f"a range must have 1 to {MOST_ADDRESSES} addresses, the lowest first"
        )
    if first <= gateway <= last:  # type: ignore[operator]  # both are of one version
        raise MacvlanSettingsError(text, "the gateway must not be within the range")
    return AddressRange(first, count, network, gateway)
