"""Which instance serves which worker group: decided purely, from who could and who does.

Everybody who decides sees the same table under the same lock, so the rule only has to be fair and calm: a group
stays where it is unless its holder is gone or has more than its share.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from uuid import UUID

from ringfence.hooks import GroupKey


def assign(
    candidates: Mapping[GroupKey, AbstractSet[UUID]], holders: Mapping[GroupKey, UUID]
) -> dict[GroupKey, UUID]:
    """Give every group that has candidates to one of them; no two loads differ by more than a move could mend."""
    load = {instance: 0 for instances in candidates.values() for instance in instances}
    assigned: dict[GroupKey, UUID] = {}
    for group, holder in holders.items():
        if holder in candidates.get(group, ()):
            assigned[group] = holder
            load[holder] += 1

    def least(group: GroupKey) -> UUID:
        return min(candidates[group], key=lambda instance: (load[instance], instance))

    for group in sorted(candidates):
        if group not in assigned and candidates[group]:
            assigned[group] = least(group)
            load[assigned[group]] += 1
    moved = True
    while moved:
        moved = False
        for group in sorted(assigned):
            here, there = assigned[group], least(group)
            if load[here] > load[there] + 1:
                assigned[group] = there
                load[here] -= 1
                load[there] += 1
                moved = True
    return assigned
