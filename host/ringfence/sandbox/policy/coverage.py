"""Whether what one policy lets a run reach or see includes what another does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from ringfence.sandbox.policy.addresses import AllowEntry, PortRange
from ringfence.sandbox.policy.addresses import Network as Addresses
from ringfence.sandbox.policy.destinations import (
    Destination,
    LocalEntry,
    NameEntry,
    SocketEntry,
    joined_ports,
    parse_entry,
)
from ringfence.sandbox.policy.model import Filesystem, FilesystemMode, Network, NetworkMode

Ports = PortRange | None


class Reached:
    """What a policy's network lets a run reach.

    A name and an address are never taken for one another, since nobody can say here what a name resolves to.
    """

    def __init__(self, network: Network) -> None:
        self._mode = network.mode
        self._sockets = {each.path for each in network.sockets}
        self._addresses: dict[Addresses, list[Ports]] = defaultdict(list)
        self._names: dict[tuple[str, bool], list[Ports]] = defaultdict(list)
        self._local: list[Ports] = []
        for each in network.destinations:
            match each:
                case AllowEntry(where, ports):
                    self._addresses[where].append(ports)
                case NameEntry(name, wildcard, ranges):
                    self._names[name, wildcard] += [None] if ranges is None else ranges
                case LocalEntry(ranges):
                    self._local += ranges

    def covers(self, text: str) -> bool:
        """Whether all that this entry means can be reached."""
        return all(map(self._covers, parse_entry(text)))

    def _covers(self, wanted: Destination) -> bool:
        if self._mode is NetworkMode.DENY:
            return False
        match wanted:
            case SocketEntry(path):
                return path in self._sockets
            case LocalEntry(ports):
                # Also where everything else can be reached, the machine's own loopback has to be listed.
                return _include(self._local, ports)
            case AllowEntry(where, ports):
                of_address = [each for wider in _wider(where) for each in self._addresses.get(wider, ())]
                return self._is_unrestricted or _include(of_address, None if ports is None else (ports,))
            case NameEntry(name, wildcard, ranges):
                found = [each for wider in _above(name, wildcard) for each in self._names.get(wider, ())]
                return self._is_unrestricted or _include(found, ranges)

    @property
    def _is_unrestricted(self) -> bool:
        return self._mode is NetworkMode.UNRESTRICTED


def shows(filesystem: Filesystem, path: str) -> bool:
    """Whether a path of the host is within what runs are shown, as far as names tell; a link may lead elsewhere."""
    if filesystem.mode is FilesystemMode.OFF:
        return is_beneath(path, "/")
    return any(is_beneath(path, shown) for shown in filesystem.host_paths)


def is_beneath(path: str, shown: str) -> bool:
    """Whether a path is what is shown, or within that; a run has a `/tmp` of its own, so that `/` does not show it."""
    if shown == "/":
        return not path.startswith("/tmp/")  # noqa: S108 - inside the sandbox
    return path == shown or path.startswith(f"{shown}/")


def _wider(network: Addresses) -> Iterable[Addresses]:
    """The network itself, and every one that it is in."""
    for prefix in range(network.prefixlen, -1, -1):
        if isinstance(network, IPv4Network):
            yield IPv4Network((network.network_address, prefix), strict=False)
        else:
            yield IPv6Network((network.network_address, prefix), strict=False)


def _above(name: str, wildcard: bool) -> Iterable[tuple[str, bool]]:
    """The name as it is, and every wildcard that it is below."""
    yield name, wildcard
    while "." in name:
        name = name.partition(".")[2]
        yield name, True


def _include(ports: Iterable[Ports], wanted: tuple[PortRange, ...] | None) -> bool:
    """Whether these ports include those; None are all, and more than all that have a number."""
    ranges: list[PortRange] = []
    for each in ports:
        if each is None:
            return True
        ranges.append(each)
    if wanted is None:
        return False
    joined = joined_ports(ranges)
    return all(any(of.first <= each.first and each.last <= of.last for of in joined) for each in wanted)
