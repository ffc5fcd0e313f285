"""The record of what a run tried on the network: bounded, whatever it tries.

Names and addresses come from a script, or from whoever answers it: they are kept as printable ASCII of bounded length.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

MOST_ENTRIES = 200
"""Of each list. What comes after is counted."""

MOST_ADDRESSES = 8
MOST_TEXT = 255

Protocol = Literal["tcp", "udp", "icmp"]
Failure = Literal["refused", "unreachable", "timed out"]
Outcome = Literal["answered", "refused", "nxdomain", "failed"]


LOCAL = "localhost"
"""How the host's own loopback is told of."""


def place(address: object, *, local: bool = False) -> str:
    """How an address is told of, which is `local` if it is one of the host's loopback."""
    return LOCAL if local else str(address)


def printable(text: str) -> str:
    """A text as printable ASCII, not longer than `MOST_TEXT`; what else was in it becomes `?`."""
    return "".join(char if " " < char < "\x7f" else "?" for char in text[:MOST_TEXT])


@dataclass(slots=True)
class Flow:
    """What goes to one destination; whoever moves bytes adds to it."""

    connections: int = 0
    sent: int = 0
    received: int = 0


@dataclass(frozen=True, slots=True)
class _Destination:
    name: str | None
    address: str
    port: int
    protocol: Protocol

    def to_json(self) -> dict[str, Any]:
        name = {} if self.name is None else {"name": self.name}
        return {**name, "address": self.address, "port": self.port, "protocol": self.protocol}


@dataclass(slots=True)
class _Name:
    addresses: dict[str, None] = field(default_factory=dict)
    count: int = 0


class Tally:
    """What a run tried, until it ends."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, Outcome], _Name] = {}
        self._used: dict[tuple[_Destination, Failure | None], Flow] = {}
        self._failures: dict[tuple[_Destination, Failure], int] = {}
        self._refused: dict[tuple[_Destination, str], int] = {}
        self._more = {"names": 0, "used": 0, "refused": 0}

    def name(self, name: str, outcome: Outcome, addresses: Iterable[str] = ()) -> None:
        """A name was looked up; with `answered`, these addresses were answered, of which a few are kept."""
        key = (printable(name), outcome)
        if key not in self._names and not self._has_room("names", len(self._names)):
            return
        entry = self._names.setdefault(key, _Name())
        entry.count += 1
        for address in addresses:
            if len(entry.addresses) == MOST_ADDRESSES:
                break
            entry.addresses[printable(address)] = None

    def connected(self, address: str, port: int, protocol: Protocol, *, name: str | None = None) -> Flow:
        """A connection was made, or the first datagram of an exchange sent. Its bytes are added to what is returned."""
        flow = self._flow(_destination(name, address, port, protocol), None)
        flow.connections += 1
        return flow

    def failed(
        self, address: str, port: int, protocol: Protocol, failure: Failure, *, name: str | None = None
    ) -> None:
        """A connection that the policy allows could not be made, for a reason that lies outside."""
        destination = _destination(name, address, port, protocol)
        self._flow(destination, failure)
        if (destination, failure) in self._used:
            self._failures[destination, failure] = self._failures.get((destination, failure), 0) + 1

    def refused(
        self, address: str, port: int, protocol: Protocol, why: str, *, name: str | None = None
    ) -> None:
        """The policy did not allow it."""
        # A reason may tell a name, so it is as hostile as that; its own words have spaces.
        reason = " ".join(map(printable, why[:MOST_TEXT].split()))
        key = (_destination(name, address, port, protocol), reason)
        if key in self._refused or self._has_room("refused", len(self._refused)):
            self._refused[key] = self._refused.get(key, 0) + 1

    def unseen(self, packets: int) -> None:
        """So many packets came faster than they could be looked at: nothing of them has passed."""
        self._more["refused"] += packets

    def to_json(self) -> dict[str, Any]:
        """The record as it is told: JSON's own types alone."""
        return {
            "names": [
                {
                    "name": name,
                    "answered": list(entry.addresses) if outcome == "answered" else outcome,
                    "count": entry.count,
                }
                for (name, outcome), entry in self._names.items()
            ],
            "used": [
                {
                    **destination.to_json(),
                    "connections": flow.connections,
                    "sent": flow.sent,
                    "received": flow.received,
                    **({} if failure is None else self._failure(destination, failure)),
                }
                for (destination, failure), flow in self._used.items()
            ],
            "refused": [
                {**destination.to_json(), "count": count, "why": why}
                for (destination, why), count in self._refused.items()
            ],
            "more": dict(self._more),
        }

    def _failure(self, destination: _Destination, failure: Failure) -> dict[str, Any]:
        return {"failed": failure, "count": self._failures[destination, failure]}

    def _flow(self, destination: _Destination, failure: Failure | None) -> Flow:
        """The flow that is kept, or one that is forgotten if there is no room."""
        flow = self._used.get((destination, failure))
        if flow is None:
            flow = Flow()
            if self._has_room("used", len(self._used)):
                self._used[destination, failure] = flow
        return flow

    def _has_room(self, which: str, entries: int) -> bool:
        """Whether a list takes another entry; if not, it is counted."""
        if entries < MOST_ENTRIES:
            return True
        self._more[which] += 1
        return False


def _destination(name: str | None, address: str, port: int, protocol: Protocol) -> _Destination:
    return _Destination(None if name is None else printable(name), printable(address), port, protocol)
