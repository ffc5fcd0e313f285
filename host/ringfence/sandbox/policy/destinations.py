"""What one entry of `network.allow` means: addresses, a name, a service of the machine itself, or one socket.

Threat: a text that is an address for one program and a name for another (`0x7f.1`, `1.2.3`), a wildcard that is wider
than it reads. Mechanism: an entry is read in one way or not at all. What ends in a number is an address or an error, as
browsers have it (URL Standard, "ends in a number"). A name in other letters than ASCII is meant as its A-labels
(RFC 5890, UTS #46), and `*` stands for whole labels at the front alone. Not covered: letters that look like others make
another name, which is taken as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network

from ringfence.sandbox.policy.addresses import (
    AllowEntry,
    AllowEntryError,
    Network,
    PortRange,
    read_network,
    read_ports,
    split_entry,
)
from ringfence.sandbox.policy.paths import socket_path

LONGEST_NAME = 253
"""The most characters of a name, without the dot at its end (RFC 1035 section 2.3.4, in text)."""

LONGEST_ENTRY = 4096
"""The most characters of an entry: a name or a path, and some hundreds of ports."""

SOCKET = "unix:"
"""What the entry of a Unix socket begins with."""

LOCALHOST = "localhost"
LOCAL: frozenset[Network] = frozenset((IPv4Network("127.0.0.1/32"), IPv6Network("::1/128")))
"""The machine's own loopback, as a run has it, too."""

LOOPBACK: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_KEPT_ENTRIES = 32_768


@dataclass(frozen=True, slots=True)
class NameEntry:
    """A name that a run may resolve, and whose addresses it may connect to.

    Attributes:
        name: in lower-case ASCII (A-labels), without a dot at its end and without the `*.` of a wildcard.
        wildcard: whether this means every name below, at any depth, and not the name itself.
        ports: which TCP and UDP ports there, ascending and apart; None for every port.
    """

    name: str
    wildcard: bool = False
    ports: tuple[PortRange, ...] | None = None

    def matches(self, name: str) -> bool:
        """Whether that name is meant; it is given in lower-case ASCII, without a dot at its end."""
        return name.endswith(f".{self.name}") and name[0] != "." if self.wildcard else name == self.name

    def __str__(self) -> str:
        """The canonical spelling, which `parse_entry` gives back as an equal value."""
        name = f"*.{self.name}" if self.wildcard else self.name
        return name if self.ports is None else f"{name}:{_spelled(self.ports)}"


@dataclass(frozen=True, slots=True)
class LocalEntry:
    """Services on these ports of the machine's own loopback."""

    ports: tuple[PortRange, ...]

    def __str__(self) -> str:
        """The canonical spelling, which `parse_entry` gives back as an equal value."""
        return f"{LOCALHOST}:{_spelled(self.ports)}"


@dataclass(frozen=True, slots=True)
class SocketEntry:
    """The Unix socket at this path of the machine.

    Raises:
        ValueError: if no run can have a socket at that path.
    """

    path: str

    def __post_init__(self) -> None:
        socket_path(self.path)

    def __str__(self) -> str:
        """The canonical spelling, which `parse_entry` gives back as an equal value."""
        return f"{SOCKET}{self.path}"


Destination = AllowEntry | NameEntry | LocalEntry | SocketEntry


def parse_entry(text: str) -> tuple[Destination, ...]:
    """Read one entry, strictly: one destination, or an address once for each of its port ranges.

    Raises:
        AllowEntryError: saying what is wrong with it and what is accepted.
    """
    if not isinstance(text, str):
        raise AllowEntryError(text, "an entry must be a string")
    return _parsed(text)


# A policy is read again for each run, and by everyone who asks it; what an entry means never changes.
@lru_cache(maxsize=_KEPT_ENTRIES)
def _parsed(text: str) -> tuple[Destination, ...]:
    try:
        return _read(text)
    except AllowEntryError as error:
        # Told in the words of the whole entry, not of the part of it that was at fault.
        raise AllowEntryError(text, error.problem) from None


def joined_ports(ports: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """The same ports in as few ranges as there can be, ascending."""
    joined: list[PortRange] = []
    for each in sorted(ports):
        if joined and each.first <= joined[-1].last + 1:
            joined[-1] = PortRange(joined[-1].first, max(joined[-1].last, each.last))
        else:
            joined.append(each)
    return tuple(joined)


def _spelled(ports: tuple[PortRange, ...]) -> str:
    return ",".join(map(str, ports))


def _read(text: str) -> tuple[Destination, ...]:
    if not text:
        raise AllowEntryError(text, "it is empty")
    if len(text) > LONGEST_ENTRY:
        raise AllowEntryError(f"{text[:60]}…", f"it has more than {LONGEST_ENTRY:,} characters")
    if text.startswith(SOCKET):
        return (_socket(text.removeprefix(SOCKET)),)
    if not text.isprintable() or any(character.isspace() for character in text):
        raise AllowEntryError(text, "it holds white space or characters that no address and no name has")
    if "://" in text:
        raise AllowEntryError(text, "this is a URL: write the name or address in it, and its port")
    host, ports_text = split_entry(text)
    if "," in host:
        raise AllowEntryError(text, "commas are for ports: write each destination as an entry of its own")
    name = _name(host)
    ports = None if ports_text is None else joined_ports(map(read_ports, ports_text.split(",")))
    if name is None:
        return _addressed(read_network(host), ports)
    if name.name == LOCALHOST and not name.wildcard:
        if ports is None:
            raise AllowEntryError(text, "name the ports of the machine's own services: localhost:8080")
        return (LocalEntry(ports),)
    if name.name == LOCALHOST or name.name.endswith(f".{LOCALHOST}"):
        raise AllowEntryError(
            text, "every name under localhost is the machine itself (RFC 6761): write localhost:8080"
        )
    return (NameEntry(name.name, name.wildcard, ports),)


def _addressed(network: Network, ports: tuple[PortRange, ...] | None) -> tuple[Destination, ...]:
    if ports is None:
        return (AllowEntry(network),)
    if network in LOCAL:
        return (LocalEntry(ports),)
    return tuple(AllowEntry(network, each) for each in ports)


def _socket(path: str) -> SocketEntry:
    try:
        return SocketEntry(path)
    except ValueError as error:
        raise AllowEntryError(path, f"after {SOCKET} comes the path of a socket: {error}") from None


def _name(host: str) -> NameEntry | None:
    """The name that this is; None if it can only be meant as an address."""
    wildcard = host.startswith("*.")
    text = host.removeprefix("*.") if wildcard else host
    if not host or ":" in text:
        return None
    if host == "*":
        raise AllowEntryError(host, "this is every name: for everything, set network.mode to unrestricted")
    if "*" in text:
        raise AllowEntryError(host, "* stands for whole labels at the front: *.example.com")
    labels = _labels(text)
    if _NUMBER.fullmatch(labels[-1]) or _NUMBER.fullmatch(labels[-1].partition("/")[0]):
        if wildcard or not text.isascii():
            raise AllowEntryError(host, "a name cannot end in a number, as addresses do")
        return None
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise AllowEntryError(host, f"not a name: {_why_no_label(label)}")
    if len(name := ".".join(labels)) > LONGEST_NAME:
        raise AllowEntryError(host, f"a name has at most {LONGEST_NAME} characters, and this {len(name)}")
    return NameEntry(name, wildcard)


def _labels(text: str) -> list[str]:
    """The labels of a name as they are on the wire, in lower case, without the empty one at the end."""
    if text.isascii() and "xn--" not in text.lower():
        return text.lower().removesuffix(".").split(".")
    if len(text) > LONGEST_NAME + 1:
        raise AllowEntryError(text, f"a name has at most {LONGEST_NAME} characters")
    # Its tables take some milliseconds to import, which few policies need.
    import idna

    try:
        encoded = idna.encode(text, uts46=True)
    except UnicodeError as error:
        raise AllowEntryError(text, f"not a name in any language (IDNA): {error}") from None
    return encoded.decode().lower().removesuffix(".").split(".")


def _why_no_label(label: str) -> str:
    if not label:
        return "there is nothing between two dots"
    if "/" in label:
        return "a name has no prefix length and no path"
    if len(label) > 63:
        return "between two dots there are more than 63 characters"
    if label.startswith("-") or label.endswith("-"):
        return f"{label!r} begins or ends with a hyphen"
    return f"{label!r} holds other characters than letters, digits, hyphens and underscores"
