"""What this satellite is assigned, and how that changes. It outlives a lost connection, and not the process.

The assignments are kept as they came: their digest is over all that the host has sent, and so over what a newer host
means by it and this satellite does not understand.
"""

from __future__ import annotations

from dataclasses import dataclass

from ringfence.bounded import cleaned

from ringfence_satellite.protocol import Assignment, ProtocolError, StrategyError
from ringfence_satellite.protocol.assignments import NOTHING, Assigned, Item


@dataclass(frozen=True, slots=True)
class Assign:
    """Carry out exactly these assignments from now on, and tell the host of those new ones that cannot be.

    `named` are the ids of all that the host has named; None if it has not.
    """

    assignments: tuple[Assignment, ...]
    refused: tuple[StrategyError, ...] = ()
    named: frozenset[str] | None = None


class HeldAssignments:
    """The assignments of this process, and what of them can be carried out."""

    def __init__(self) -> None:
        self.current = NOTHING
        self._readable: dict[str, Assignment] = {}

    def take(self, assigned: Assigned) -> Assign:
        """Have these from now on. What has not changed is not read again, nor complained of."""
        before, readable = self.current, self._readable
        self.current, self._readable = assigned, {}
        refused = []
        for id, item in assigned.items.items():
            if before.items.get(id) == item:
                if id in readable:
                    self._readable[id] = readable[id]
                continue
            try:
                self._readable[id] = Assignment.read(item.wire)
            except ProtocolError as error:
                refused.append(_complaint(item, error))
        return Assign(tuple(self._readable.values()), tuple(refused), frozenset(assigned.items))

    def forget(self) -> None:
        """Have none: the host has nothing for this satellite to do."""
        self.take(NOTHING)


def _complaint(item: Item, error: ProtocolError) -> StrategyError:
    return StrategyError(
        strategy_id=cleaned(str(item.wire.get("configId", "?")), 200), message=cleaned(str(error), 2000)
    )
