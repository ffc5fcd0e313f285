"""Tables of tests of which some rows show the same as others: those are slow ones.

A test that is marked `in_turn("link", "uid")` shows, with each value of these, much the same. Of its table the fast
tests keep one row for each combination of the other parameters, with these values in turn; each value of each is kept
in one row at least. The rest is marked `slow`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence

import pytest


def kept(rows: Sequence[Mapping[str, Hashable]], turning: Sequence[str]) -> set[int]:
    """Which rows of a table are kept, by their places: each combination of the others, and each value of `turning`."""
    groups: defaultdict[Hashable, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        others = frozenset((name, value) for name, value in row.items() if name not in turning)
        groups[others].append(place)
    values = [[(name, row.get(name)) for name in turning] for row in rows]
    often: Counter[Hashable] = Counter()

    def keep(place: int) -> int:
        often.update([*values[place], tuple(values[place])])
        return place

    def wear(place: int) -> tuple[int, int]:
        """How often its values were kept so far, and all of them together."""
        return sum(often[value] for value in values[place]), often[tuple(values[place])]

    def lacks(place: int) -> int:
        return sum(value not in often for value in values[place])

    found = {keep(min(places, key=wear)) for places in groups.values()}
    while any(map(lacks, range(len(rows)))):
        found.add(keep(max(range(len(rows)), key=lacks)))
    return found


def mark(items: Sequence[pytest.Item]) -> None:
    """Mark as slow what is not kept of the tables of these tests."""
    tables: defaultdict[tuple[str, bool], list[pytest.Function]] = defaultdict(list)
    for item in items:
        # What is skipped here shows nothing, and stands for no other row.
        skipped = any(each.args and each.args[0] is True for each in item.iter_markers("skipif"))
        if isinstance(item, pytest.Function) and item.get_closest_marker("in_turn") and not skipped:
            # What another family runs stands for no row of this one.
            family = item.get_closest_marker("other_wrapper") is not None
            tables[item.nodeid.partition("[")[0], family].append(item)
    for table in tables.values():
        turning = [name for each in table[0].iter_markers("in_turn") for name in each.args]
        places = kept([_row(item) for item in table], turning)
        for place, item in enumerate(table):
            if place not in places:
                item.add_marker(pytest.mark.slow)


def _row(item: pytest.Function) -> dict[str, int]:
    # The same value is the same object in every row, and need not be hashable.
    return (
        {name: id(value) for name, value in item.callspec.params.items()} if hasattr(item, "callspec") else {}
    )
