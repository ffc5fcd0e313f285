"""What a run tried on the network, as its result tells it.

It comes from a relay, and maybe over a satellite's socket: each list and each text in it is bounded.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, StrictInt, StringConstraints, model_serializer

from ringfence.sandbox.egress.relaying.tally import MOST_ADDRESSES, MOST_ENTRIES, MOST_TEXT
from ringfence.sandbox.policy import LARGEST_LIMIT
from ringfence.sandbox.wire import WireModel

Text = Annotated[str, StringConstraints(max_length=MOST_TEXT)]
Count = Annotated[StrictInt, Field(ge=0, le=LARGEST_LIMIT)]
Port = Annotated[StrictInt, Field(ge=0, le=65535)]
Protocol = Literal["tcp", "udp", "icmp"]


class NameTried(WireModel):
    """A name that was looked up so many times: what was answered, the first few addresses, or why nothing was."""

    name: Text
    answered: (
        Annotated[tuple[Text, ...], Field(max_length=MOST_ADDRESSES)]
        | Literal["refused", "nxdomain", "failed"]
    )
    count: Count


class Destination(WireModel):
    """Where something was sent; `name` is by which the address was opened, if the policy does not list it itself.

    `address` is "localhost" for the machine's own loopback. `port` is 0 where the protocol has none.
    """

    name: Text | None = None
    address: Text
    port: Port
    protocol: Protocol

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told: dict[str, Any] = handler(self)
        return {name: value for name, value in told.items() if value is not None}


class Used(Destination):
    """A destination that was allowed: how many connections were made (or conversations begun), and their bytes.

    `failed` is how it went outside where none could be made, so many times (`count`).
    """

    connections: Count
    sent: Count
    received: Count
    failed: Literal["refused", "unreachable", "timed out"] | None = None
    count: Count | None = None


class RefusedDestination(Destination):
    """A destination that the policy did not allow, so many times, and why."""

    count: Count
    why: Text


class More(WireModel):
    """How many more there were of each than the lists have room for."""

    names: Count = 0
    used: Count = 0
    refused: Count = 0


class EgressRecord(WireModel):
    """What a run tried on the network: names, destinations that were allowed, and those that were refused."""

    names: Annotated[tuple[NameTried, ...], Field(max_length=MOST_ENTRIES)] = ()
    used: Annotated[tuple[Used, ...], Field(max_length=MOST_ENTRIES)] = ()
    refused: Annotated[tuple[RefusedDestination, ...], Field(max_length=MOST_ENTRIES)] = ()
    more: More = More()

    def first(self, most: int) -> EgressRecord:
        """The same with no more than so many of each; what is left out is counted."""
        return EgressRecord(
            names=self.names[:most],
            used=self.used[:most],
            refused=self.refused[:most],
            more=More(
                names=min(LARGEST_LIMIT, self.more.names + len(self.names[most:])),
                used=min(LARGEST_LIMIT, self.more.used + len(self.used[most:])),
                refused=min(LARGEST_LIMIT, self.more.refused + len(self.refused[most:])),
            ),
        )
