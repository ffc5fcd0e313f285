"""Two changes of the policy that were made at once, put together: a three-way merge of settings. Pure.

A setting that one side alone has changed is taken from that side. What both have changed, and not to the same, is for
somebody to choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Side = Literal["mine", "theirs", "both"]
_NOT_THERE = object()


@dataclass(frozen=True, slots=True)
class Conflict:
    """A setting that both have changed. `both`, of lists alone, is what either has added less what either has removed.

    `base` is None as well where nobody knows what it was.
    """

    path: str
    base: Any
    mine: Any
    theirs: Any
    both: list[Any] | None

    def taken(self, side: str) -> Any:
        """The value of one side. Raises `KeyError` where there is no such side."""
        sides = {"mine": self.mine, "theirs": self.theirs}
        return {**sides, "both": self.both}[side] if self.both is not None else sides[side]


@dataclass(frozen=True, slots=True)
class Merge:
    """What two changes come to: what is settled, whose it is, and what is to be chosen."""

    values: Mapping[str, Any]
    mine: tuple[str, ...]
    theirs: tuple[str, ...]
    conflicts: tuple[Conflict, ...]

    def chosen(self, sides: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """All values with what was chosen by path, and the paths of which nothing was."""
        values, open = dict(self.values), []
        for one in self.conflicts:
            try:
                values[one.path] = one.taken(sides.get(one.path, ""))
            except KeyError:
                open.append(one.path)
        return values, tuple(open)


def merge(base: Mapping[str, Any] | None, mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> Merge:
    """Put two changes of `base` together, by path; without a base, all that differs is to be chosen."""
    values: dict[str, Any] = {}
    of_mine, of_theirs, conflicts = [], [], []
    for path, other in theirs.items():
        own, before = mine[path], _NOT_THERE if base is None else base[path]
        if own == other:
            values[path] = own
        elif own == before:
            values[path] = other
            of_theirs.append(path)
        elif other == before:
            values[path] = own
            of_mine.append(path)
        else:
            was = None if base is None else before
            conflicts.append(Conflict(path, was, own, other, _both(was, own, other)))
    return Merge(values, tuple(of_mine), tuple(of_theirs), tuple(conflicts))


def _both(base: Any, mine: Any, theirs: Any) -> list[Any] | None:
    if not (isinstance(mine, list) and isinstance(theirs, list)):
        return None
    before = base if isinstance(base, list) else []
    kept_by_both = set(mine) & set(theirs)
    known = set(before)
    joined = dict.fromkeys([*theirs, *mine])
    return [one for one in joined if one not in known or one in kept_by_both]
