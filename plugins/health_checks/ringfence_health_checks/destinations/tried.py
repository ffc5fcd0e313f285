"""What one run tried on the network, as it is counted: each destination once, by its name if it has one. Pure."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import ValidationError
from ringfence.sandbox.egress.record import EgressRecord, NameTried
from ringfence.sandbox.policy import LARGEST_LIMIT

LOOKUP = "dns"
"""The protocol of a name that was refused when it was looked up: nobody knows what for."""


class Tried(enum.StrEnum):
    """How a try went: the destination was allowed and used, or the policy did not allow it."""

    USED = "used"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, order=True)
class Destination:
    """A name or an address (`localhost` for the machine's own loopback), with a port unless the protocol has none."""

    outcome: Tried
    protocol: str
    host: str
    port: int


class Count(NamedTuple):
    """A destination, and how often it was tried."""

    destination: Destination
    times: int


def tried(told: object) -> list[Count]:
    """What a run's record, as it is kept, tells of; nothing if it cannot be read. In an order of its own."""
    try:
        record = EgressRecord.model_validate(told)
    except ValidationError:
        return []
    counts: Counter[Destination] = Counter()
    for one in _each(record):
        counts[one.destination] = min(LARGEST_LIMIT, counts[one.destination] + one.times)
    return [Count(destination, counts[destination]) for destination in sorted(counts)]


def _each(record: EgressRecord) -> Iterator[Count]:
    names = {address: one.name for one in record.names for address in _answers(one)}
    for used in record.used:
        # One that failed outside was wanted, and allowed, all the same.
        times = max(1, used.connections + (used.count or 0))
        host = used.name or used.address
        yield Count(Destination(Tried.USED, used.protocol, _spelled(host), used.port), times)
    for refused in record.refused:
        host = refused.name or names.get(refused.address, refused.address)
        at = Destination(Tried.REFUSED, refused.protocol, _spelled(host), refused.port)
        yield Count(at, max(1, refused.count))
    for name in record.names:
        if name.answered == "refused":
            yield Count(Destination(Tried.REFUSED, LOOKUP, _spelled(name.name), 0), max(1, name.count))


def _spelled(host: str) -> str:
    """A name in the one spelling in which it is counted."""
    return host.lower().removesuffix(".")


def _answers(name: NameTried) -> tuple[str, ...]:
    return name.answered if isinstance(name.answered, tuple) else ()
