"""An entry of `network.allow` that is an address or a network, and optionally ports on it.

The filter is written from these values, so a text that could be read in two ways must not be read at all:
every spelling that some tool somewhere takes for another address (leading zeros, net masks, host bits, zone
ids, IPv4-mapped IPv6) is refused with the reason, when the policy is written and not when a script runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

ACCEPTED = (
    "an address, a network or a name, optionally with ports: 10.0.0.5, 10.0.0.0/8:8000-8100, 2001:db8::/32, "
    "[2001:db8::1]:5432, api.example.com:443,8443, *.example.com:443 (every name below it); localhost:8080 for a "
    "service of the machine itself; unix:/run/app.sock for one of its sockets"
)
"""What may be written, in the words that every error ends with."""

HIGHEST_PORT = 65535

IPV4_MAPPED = IPv6Network("::ffff:0:0/96")
"""RFC 4291 section 2.5.5.2: IPv4 inside an IPv6 socket; on the wire it is plain IPv4."""

_DECIMAL = re.compile(r"0|[1-9][0-9]*")


class AllowEntryError(ValueError):
    """An entry of `network.allow` that cannot be taken; the message says what is wrong and what is accepted.

    Attributes:
        text: the entry as it was written.
        problem: what is wrong with it, without the list of what is accepted.
    """

    def __init__(self, text: object, problem: str) -> None:
        self.text = text
        self.problem = problem
        super().__init__(f"{text!r}: {problem}; accepted: {ACCEPTED}")


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """The ports `first` to `last`, both included, of TCP and UDP.

    Raises:
        ValueError: if either is outside 1 to 65535, or they are the wrong way round.
    """

    first: int
    last: int

    def __post_init__(self) -> None:
        for port in (self.first, self.last):
            if not 1 <= port <= HIGHEST_PORT:
                raise ValueError(f"port {port} is outside 1 to {HIGHEST_PORT}")
        if self.first > self.last:
            raise ValueError(f"the port range {self.first}-{self.last} is the wrong way round")

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self.first <= port <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class AllowEntry:
    """One destination that scripts may reach.

    Attributes:
        network: where to; a single address is a network of one.
        ports: which TCP and UDP ports there; None means the address whole: every port and every protocol.

    Raises:
        AllowEntryError: if `network` is one that no entry may name (IPv4-mapped, or the unspecified address).
    """

    network: Network
    ports: PortRange | None = None

    def __post_init__(self) -> None:
        if isinstance(self.network, IPv6Network) and self.network.subnet_of(IPV4_MAPPED):
            plain = self.network.network_address.ipv4_mapped
            raise AllowEntryError(
                str(self.network), f"an IPv4-mapped IPv6 address is IPv4 on the wire, write {plain} instead"
            )
        if self.is_single and self.network.network_address.is_unspecified:
            everything = "0.0.0.0/0" if self.network.version == 4 else "::/0"
            raise AllowEntryError(
                str(self.network.network_address),
                f"this is not a destination; for all addresses of this family, write {everything}",
            )

    @property
    def is_single(self) -> bool:
        """Whether this names one address and not a network."""
        return self.network.prefixlen == self.network.max_prefixlen

    def covers(self, address: Address, port: int) -> bool:
        """Whether a TCP or UDP packet to `port` at `address` is within this entry."""
        return address in self.network and (self.ports is None or port in self.ports)

    def __str__(self) -> str:
        """The canonical spelling, which `parse` gives back as an equal value."""
        host = str(self.network.network_address if self.is_single else self.network)
        if self.ports is None:
            return host
        return f"[{host}]:{self.ports}" if self.network.version == 6 else f"{host}:{self.ports}"

    @classmethod
    def parse(cls, text: str) -> AllowEntry:
        """Read one address or network with at most one range of ports, strictly.

        Raises:
            AllowEntryError: saying what is wrong with it and what is accepted.
        """
        try:
            return cls._parse(text)
        except AllowEntryError as error:
            # Told in the words of the whole entry, not of the part of it that was at fault.
            raise AllowEntryError(text, error.problem) from None

    @classmethod
    def _parse(cls, text: str) -> AllowEntry:
        if not isinstance(text, str):
            raise AllowEntryError(text, "an entry must be a string")
        if not text:
            raise AllowEntryError(text, "it is empty")
        if not text.isascii() or not text.isprintable() or " " in text:
            raise AllowEntryError(text, "it holds white space or characters that no address has")
        host, ports = split_entry(text)
        return cls(read_network(host), None if ports is None else read_ports(ports))


def split_entry(text: str) -> tuple[str, str | None]:
    """The host part and the port part; an IPv6 host needs brackets before it can have ports."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket:
            raise AllowEntryError(text, "the bracket is not closed")
        if ":" not in host:
            raise AllowEntryError(text, "brackets are for IPv6 only")
        if not rest:
            return host, None
        if not rest.startswith(":"):
            raise AllowEntryError(text, f"after the bracket comes ':' and a port, not {rest!r}")
        return host, rest[1:]
    if "[" in text or "]" in text:
        raise AllowEntryError(text, "a bracket in the wrong place")
    if text.count(":") == 1:
        host, _, ports = text.partition(":")
        return host, ports
    return text, None


def read_network(text: str) -> Network:
    """The address or network that the host part of an entry is. Raises AllowEntryError."""
    if not text:
        raise AllowEntryError(text, "the address is missing")
    if "%" in text:
        raise AllowEntryError(text, "zone ids name an interface of one machine and are not accepted")
    address_text, slash, prefix_text = text.partition("/")
    address = _address(address_text)
    if not slash:
        return _network_of(address, address.max_prefixlen)
    if not _DECIMAL.fullmatch(prefix_text):
        raise AllowEntryError(
            text, f"the prefix length {prefix_text!r} is not a plain decimal number without leading zeros"
        )
    prefix = int(prefix_text)
    if prefix > address.max_prefixlen:
        raise AllowEntryError(
            text,
            f"the prefix length {prefix} exceeds the {address.max_prefixlen} bits of IPv{address.version}",
        )
    network = _network_of(address, prefix)
    if network.network_address != address:
        raise AllowEntryError(
            text, f"host bits are set after the first {prefix}; the network is {network}, the host {address}"
        )
    return network


def _network_of(address: Address, prefix: int) -> Network:
    if isinstance(address, IPv4Address):
        return IPv4Network((address, prefix), strict=False)
    return IPv6Network((address, prefix), strict=False)


def _address(text: str) -> Address:
    if ":" in text:
        try:
            return IPv6Address(text)
        except ValueError as error:
            raise AllowEntryError(text, f"not an IPv6 address ({error})") from None
    octets = text.split(".")
    if any(len(octet) > 1 and octet.startswith("0") and octet.isdigit() for octet in octets):
        raise AllowEntryError(text, "a leading zero, which some programs read as octal")
    try:
        return IPv4Address(text)
    except ValueError as error:
        raise AllowEntryError(text, f"not an IPv4 address ({error})") from None


def read_ports(text: str) -> PortRange:
    """One port, or a range of them. Raises AllowEntryError."""
    first_text, dash, last_text = text.partition("-")
    for part in (first_text, last_text) if dash else (first_text,):
        if not _DECIMAL.fullmatch(part):
            raise AllowEntryError(
                text, f"the port {part!r} is not a plain decimal number without leading zeros"
            )
        if len(part) > len(str(HIGHEST_PORT)):
            raise AllowEntryError(text, f"port {part[:12]} is outside 1 to {HIGHEST_PORT}")
    try:
        return PortRange(int(first_text), int(last_text) if dash else int(first_text))
    except ValueError as error:
        raise AllowEntryError(text, str(error)) from None
