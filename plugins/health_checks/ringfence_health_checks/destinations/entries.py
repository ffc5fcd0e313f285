"""What would let checks have what they have tried, as entries of an allowlist. Pure.

Threat: what is suggested was chosen by scripts, and by whoever answers them. Mechanism: an entry is suggested only as
it can be written and would have an effect, as narrow as it was tried: one name or address with its ports, never a
network or a wildcard; loopback by `localhost` and a port alone; metadata services and the like never. Not covered:
whether a check should have what it asks for, which somebody has to decide who sees by whom it was asked for, and how
often.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ringfence.sandbox.policy import Network, NetworkMode
from ringfence.sandbox.policy.addresses import Address, AllowEntry, AllowEntryError
from ringfence.sandbox.policy.blocked import blocked_ranges
from ringfence.sandbox.policy.coverage import Reached
from ringfence.sandbox.policy.destinations import LocalEntry, NameEntry, parse_entry

from ringfence_health_checks.destinations.table import Wish
from ringfence_health_checks.destinations.tried import LOOKUP, Destination, Tried

GUESSED_PORT = 443
"""What a name that was refused at its lookup is taken to be wanted for, unless it was tried with a port as well."""
MOST_PORTS = 20
"""Of how many ports one entry is suggested. What was tried on more is told, and left to whoever decides."""
LOCAL = "localhost"


@dataclass(frozen=True, slots=True)
class Asker:
    """A check that has tried something: how often, and when last."""

    check_id: UUID
    check: str
    tries: int
    last_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Suggestion:
    """An entry, and who has tried it, whether it was allowed then or not. `guessed`: its port is a guess."""

    entry: str
    askers: tuple[Asker, ...]
    outcomes: frozenset[Tried]
    guessed: bool = False

    @property
    def tries(self) -> int:
        """How often it was tried, by all."""
        return sum(asker.tries for asker in self.askers)


@dataclass(frozen=True, slots=True)
class Unfit:
    """What was tried and is not suggested, and why."""

    host: str
    port: int
    protocol: str
    why: str
    askers: tuple[Asker, ...]


@dataclass(slots=True)
class _Host:
    """What was tried of one name or address."""

    ports: set[int] = field(default_factory=set)
    lookup: bool = False
    wishes: list[Wish] = field(default_factory=list)


def suggested(wishes: Iterable[Wish]) -> tuple[list[Suggestion], list[Unfit]]:
    """One entry for each name or address, with all ports that were tried, the most tried first; and what is unfit."""
    hosts: dict[str, _Host] = {}
    unfit: dict[tuple[str, int, str], tuple[str, list[Wish]]] = {}
    pings: dict[str, list[Wish]] = {}
    for wish in wishes:
        at = wish.destination
        if (why := why_unfit(at)) is not None:
            unfit.setdefault((at.host, at.port, at.protocol), (why, []))[1].append(wish)
        elif at.protocol == "icmp":
            pings.setdefault(at.host, []).append(wish)
        else:
            host = hosts.setdefault(at.host, _Host())
            host.wishes.append(wish)
            if at.protocol == LOOKUP:
                host.lookup = True
            else:
                host.ports.add(at.port)
    for name, of_host in pings.items():
        if name in hosts:
            hosts[name].wishes += of_host
        else:
            # An entry without ports would allow far more than was tried.
            why = "it was only pinged: allow it with a port that it has, and it can be pinged too"
            unfit[name, 0, "icmp"] = (why, of_host)
    for name, host in hosts.items():
        if len(host.ports) > MOST_PORTS:
            unfit[name, 0, "tcp"] = (f"it was tried on {len(host.ports)} ports, as a scan does", host.wishes)
    found = [_suggestion(name, host) for name, host in hosts.items() if len(host.ports) <= MOST_PORTS]
    return (
        sorted(found, key=lambda one: (-one.tries, one.entry)),
        [Unfit(*key, why, _askers(of)) for key, (why, of) in sorted(unfit.items())],
    )


def not_allowed(network: Network, wishes: Iterable[Wish]) -> list[Wish]:
    """What of this a policy would have to allow: what it does not, or all of it if it allows everything anyway."""
    if network.mode is NetworkMode.UNRESTRICTED:
        return list(wishes)
    reached = Reached(network)
    return [
        wish
        for wish in wishes
        if wish.destination.outcome is Tried.REFUSED and not _covers(network, reached, wish.destination)
    ]


def allowing(network: Network, suggestions: Sequence[Suggestion]) -> dict[str, Any] | None:
    """The change of a policy's network by which it allows these; None if there are none.

    An allowlist that does not hold now is not made to hold by that: it is replaced.
    """
    if not suggestions:
        return None
    kept = network.allow if network.mode is NetworkMode.ALLOWLIST else ()
    return {
        "mode": NetworkMode.ALLOWLIST.value,
        "allow": [*kept, *(suggestion.entry for suggestion in suggestions)],
    }


def _covers(network: Network, reached: Reached, at: Destination) -> bool:
    if why_unfit(at) is not None:
        return False
    if at.protocol == LOOKUP or not at.port:
        # With any port, it may be looked up and pinged.
        listed = {str(each.network.network_address) for each in network.entries}
        named = any(each.matches(at.host) for each in network.names)
        return network.mode is NetworkMode.ALLOWLIST and (named or at.host in listed)
    return reached.covers(entry_of(at))


def entry_of(destination: Destination) -> str:
    """The entry that means just this: without a port if it has none, and then with any."""
    port = f":{destination.port}" if destination.port else ""
    return f"{_host(destination.host)}{port}"


def why_unfit(destination: Destination) -> str | None:
    """Why a destination is never suggested; None if it may be."""
    host, has_ports = destination.host, destination.protocol in {"tcp", "udp"}
    if has_ports and not destination.port:
        return "it has no port"
    try:
        meant = parse_entry(f"{_host(host)}:{destination.port or GUESSED_PORT}")
    except AllowEntryError as error:
        return f"it cannot be an entry: {error.problem}"
    match meant:
        case (NameEntry(name, wildcard=False),) if name == host:
            return None
        case (LocalEntry(),) if host == LOCAL:
            return None if destination.port else "of the machine's own services, each is named by its port"
        case (AllowEntry(network),) if str(network.network_address) == host:
            return _why_no_address(network.network_address)
    # What was looked up may be spelled like a network, a wildcard or a socket.
    return "it is no name or address of one machine"


def _why_no_address(address: Address) -> str | None:
    # As the default policy blocks them: who lets scripts have one of these knows why.
    blocked = next((each for each in blocked_ranges(True) if address in each.where), None)
    if blocked is not None:
        return f"it is {blocked.what}"
    return "it is no address of one machine" if address.is_multicast else None


def _suggestion(name: str, host: _Host) -> Suggestion:
    guessed = not host.ports
    ports = ",".join(map(str, sorted(host.ports or {GUESSED_PORT})))
    outcomes = frozenset(wish.destination.outcome for wish in host.wishes)
    return Suggestion(f"{_host(name)}:{ports}", _askers(host.wishes), outcomes, guessed)


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _askers(wishes: Sequence[Wish]) -> tuple[Asker, ...]:
    """Each check once, the most frequent first."""
    by_check: dict[UUID, Asker] = {}
    for wish in wishes:
        known = by_check.get(wish.check_id)
        by_check[wish.check_id] = Asker(
            wish.check_id,
            wish.check,
            wish.tries + (known.tries if known else 0),
            max(wish.last_at, known.last_at) if known else wish.last_at,
        )
    return tuple(sorted(by_check.values(), key=lambda asker: (-asker.tries, asker.check)))
