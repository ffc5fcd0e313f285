"""What is decided without a database: who serves what, and how long to wait."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from ringfence.backoff import FIRST_SECONDS, LONGEST_SECONDS, pause
from ringfence.eventlog.groups.assignment import assign
from ringfence.hooks import GroupKey

instances = st.integers(0, 5).map(lambda n: UUID(int=n))
groups = st.integers(0, 9).map(lambda n: GroupKey("p", f"g{n}"))


@given(st.dictionaries(groups, st.sets(instances, min_size=1)), st.dictionaries(groups, instances))
def test_every_group_goes_to_a_candidate_and_no_single_move_would_be_fairer(
    candidates: dict[GroupKey, set[UUID]], holders: dict[GroupKey, UUID]
) -> None:
    assigned = assign(candidates, holders)
    assert set(assigned) == set(candidates)
    load = {
        instance: list(assigned.values()).count(instance) for instance in set().union(*candidates.values())
    }
    for group, instance in assigned.items():
        assert instance in candidates[group]
        assert all(load[instance] <= load[other] + 1 for other in candidates[group])
    assert assign(candidates, assigned) == assigned, "what is settled stays"


def test_a_newcomer_takes_no_more_than_its_share() -> None:
    old, new = UUID(int=1), UUID(int=2)
    keys = [GroupKey("p", name) for name in "abcde"]
    assigned = assign({key: {old, new} for key in keys}, dict.fromkeys(keys, old))
    assert sorted(list(assigned.values()).count(instance) for instance in (old, new)) == [2, 3]


@given(st.integers(1, 10_000))
def test_the_pause_doubles_up_to_a_bound_and_is_drawn_from_all_of_it(failures: int) -> None:
    asked: list[tuple[float, float]] = []

    def upper(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    longest = pause(failures, jitter=upper)
    assert asked == [(0.0, longest)]
    assert (
        longest == min(FIRST_SECONDS * 2 ** (failures - 1), LONGEST_SECONDS)
        if failures < 60
        else LONGEST_SECONDS
    )
    assert 0 <= pause(failures) <= LONGEST_SECONDS
