"""What a satellite is assigned, as a whole with a digest, and the difference between two of those.

Pure, and the same on both sides.

One check that is edited concerns hundreds of satellites, each of which has hundreds of others: only what has changed is
sent, together with the digest of what must come out. Threat: a difference that is applied to something else than it was
made from leaves a satellite with work that nobody gave it. Mechanism: a difference names the digest of what it is to be
applied to, and of the result; whoever cannot reach that result takes none of it, and asks for the whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ringfence_satellite.protocol.digest import digest

ID, INTERVAL, CRON = "configId", "intervalSeconds", "cron"


class MismatchError(ValueError):
    """A difference does not fit what is held; the message says where."""


@dataclass(frozen=True, slots=True)
class Item:
    """One assignment in wire form, which may be newer than the reader, and its digest. `size` is in bytes of JSON."""

    wire: Mapping[str, Any] = field(compare=False, repr=False)
    digest: str
    size: int = field(compare=False)

    @classmethod
    def of(cls, wire: Mapping[str, Any]) -> Item:
        """The item for an assignment in wire form."""
        size = len(json.dumps(wire, ensure_ascii=False, separators=(",", ":")).encode())
        return cls(wire, digest(wire), size)

    @property
    def runs_per_second(self) -> float:
        """How many runs its schedule makes, at most; 0 for one that has none."""
        interval = self.wire.get(INTERVAL)
        if interval is None and self.wire.get(CRON) is not None:
            return 1 / 60  # cron has no seconds
        return 1 / interval if isinstance(interval, int | float) and interval > 0 else 0.0

    @property
    def packages(self) -> str | None:
        """The set of packages that it names; None for the default one."""
        task = self.wire.get("task")
        name = task.get("packages") if isinstance(task, Mapping) else None
        return name if isinstance(name, str) else None

    @property
    def id(self) -> str:
        """The assignment's `configId`; of one that has none it is of no use what this is."""
        id = self.wire.get(ID)
        return id if isinstance(id, str) else ""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Assigned:
    """Everything that one satellite is to do, by id. Two are equal if their digests are."""

    items: Mapping[str, Item] = field(compare=False, repr=False)
    digest: str
    runs_per_second: float = field(default=0.0, compare=False)
    """How many runs their schedules make."""
    sets: frozenset[str] = field(default=frozenset(), compare=False)
    """The sets of packages that they name."""

    @classmethod
    def of(cls, items: Iterable[Item]) -> Assigned:
        """The whole that these make up; of several with one id the last counts."""
        by_id = {item.id: item for item in items}
        whole = digest({id: item.digest for id, item in by_id.items()})
        sets = frozenset(filter(None, (item.packages for item in by_id.values())))
        return cls(by_id, whole, sum(item.runs_per_second for item in by_id.values()), sets)

    @classmethod
    def read(cls, wires: Iterable[Mapping[str, Any]]) -> Assigned:
        """The whole that these assignments in wire form make up."""
        return cls.of(map(Item.of, wires))


NOTHING = Assigned.of(())


@dataclass(frozen=True, slots=True)
class Difference:
    """How one whole becomes another: what is new or has changed, what is gone, and the digests of both."""

    base: str
    upserts: tuple[Item, ...]
    removals: tuple[str, ...]
    digest: str


def difference(before: Assigned, after: Assigned) -> Difference:
    """What must be done to `before` so that it becomes `after`."""
    return Difference(
        before.digest,
        tuple(item for id, item in after.items.items() if before.items.get(id) != item),
        tuple(id for id in before.items if id not in after.items),
        after.digest,
    )


def apply(held: Assigned, change: Difference) -> Assigned:
    """What `held` becomes. Raises `MismatchError` unless that is just what the difference was made for."""
    if held.digest != change.base:
        raise MismatchError("the difference does not start from what is held")
    gone = {*change.removals, *(item.id for item in change.upserts)}
    kept = [item for id, item in held.items.items() if id not in gone]
    result = Assigned.of([*kept, *change.upserts])
    if result.digest != change.digest:
        raise MismatchError("the difference does not lead to the announced result")
    return result
