"""What a relay is told by the supervisor: where its run may connect to, in plain numbers, as JSON.

The supervisor writes it and the relay reads it; nothing of it comes from the run.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

Ports = tuple[tuple[int, int], ...]
"""Ranges of ports, the first and the last of each."""


@dataclass(frozen=True, slots=True)
class NetworkOrder:
    """Addresses that have the first `prefix` bits of `value`, and which ports are open there; None means all."""

    version: int
    value: int
    prefix: int
    ports: Ports | None


@dataclass(frozen=True, slots=True)
class NameOrder:
    """A name, or every name beneath it if it is a wildcard, and which ports are open there; None means all."""

    name: str
    wildcard: bool
    ports: Ports | None


@dataclass(frozen=True, slots=True)
class BlockedOrder:
    """Addresses that have the bits of `value` where `mask` has ones are refused, whoever names them.

    `always` is whether that holds for listed addresses too; if not, it holds for what names mean.
    """

    version: int
    value: int
    mask: int
    what: str
    always: bool


@dataclass(frozen=True, slots=True)
class Orders:
    """All that a relay needs to know.

    Attributes:
        everything: whether all that is not blocked may be reached, listed or not.
        networks: listed addresses.
        names: listed names.
        local: ports of the host's own loopback.
        blocked: what is refused before anything is allowed.
        checks_server_name: whether a TLS client at an address that only a name opened must say a listed name.
        every_port: whether any port may be listed, so that connections are taken by a packet filter inside.
        nft: the program that loads that filter.
    """

    everything: bool = False
    networks: tuple[NetworkOrder, ...] = ()
    names: tuple[NameOrder, ...] = ()
    local: Ports = ()
    blocked: tuple[BlockedOrder, ...] = ()
    checks_server_name: bool = True
    every_port: bool = False
    nft: str = ""

    def to_json(self) -> bytes:
        """These orders, to be sent."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Orders:
        """Read what `to_json` wrote."""
        read: dict[str, Any] = json.loads(data)
        return cls(
            everything=read["everything"],
            networks=tuple(
                NetworkOrder(each["version"], each["value"], each["prefix"], _ports(each["ports"]))
                for each in read["networks"]
            ),
            names=tuple(
                NameOrder(each["name"], each["wildcard"], _ports(each["ports"])) for each in read["names"]
            ),
            local=_ports(read["local"]) or (),
            blocked=tuple(BlockedOrder(**each) for each in read["blocked"]),
            checks_server_name=read["checks_server_name"],
            every_port=read["every_port"],
            nft=read["nft"],
        )

    def listed_ports(self) -> Ports:
        """The ports on which anything beyond the host's loopback is listed, where all are listed one by one."""
        listed = [*(each.ports for each in self.networks), *(each.ports for each in self.names)]
        return tuple(sorted({ports for some in listed for ports in some or ()}))


def _ports(read: list[list[int]] | None) -> Ports | None:
    return None if read is None else tuple((first, last) for first, last in read)


def holds(ports: Ports | None, port: int) -> bool:
    """Whether a port is one of these."""
    return ports is None or any(first <= port <= last for first, last in ports)
