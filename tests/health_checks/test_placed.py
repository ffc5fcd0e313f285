"""Which checks run on a satellite: looked up, and the same as when each is asked."""

from __future__ import annotations

import datetime as dt
import uuid

from hypothesis import given
from hypothesis import strategies as st
from ringfence_health_checks.checks import Check
from ringfence_health_checks.definition import Definition
from ringfence_health_checks.placed import Placed
from ringfence_health_checks.source import is_assigned
from ringfence_satellite.service import AssignedSatellite

from tests.health_checks.conftest import definition

IDS = [uuid.UUID(int=number) for number in range(1, 5)]
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def check(name: str, core: bool, satellites: list[uuid.UUID], tags: list[str], enabled: bool) -> Check:
    runs_on = {"core": core, "satellites": [str(one) for one in satellites], "tags": tags}
    wire = definition(name=name, enabled=enabled, runsOn=runs_on)
    return Check(uuid.uuid4(), Definition.model_validate(wire), NOW, "x", NOW, "x")


checks = st.lists(
    st.tuples(
        st.sampled_from("abcdef"),
        st.just(True),
        st.lists(st.sampled_from(IDS), max_size=3),
        st.lists(st.sampled_from("xyz"), max_size=3),
        st.booleans(),
    ).map(lambda fields: check(*fields)),
    max_size=12,
)


@given(checks, st.sampled_from(IDS), st.frozensets(st.sampled_from("xyzw")))
def test_it_finds_just_those_that_are_assigned(
    found: list[Check], id: uuid.UUID, tags: frozenset[str]
) -> None:
    satellite = AssignedSatellite(id, tags)
    placed = Placed(found).on(satellite)
    expected = [one for one in found if is_assigned(one, satellite)]
    assert {one.id for one in placed} == {one.id for one in expected}
    assert len(placed) == len(expected)
    assert [one.definition.name for one in placed] == sorted(one.definition.name for one in expected)
