"""Which checks run on a satellite: looked up, and the same as when each is asked."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ringfence_health_checks.definitions.checks import Check
from ringfence_health_checks.definitions.definition import Definition
from ringfence_health_checks.definitions.placed import Placed
from ringfence_health_checks.running.assignments import is_assigned
from ringfence_satellite.server.profile import Profile
from ringfence_satellite.service import AssignedSatellite, Selector

from tests.health_checks.conftest import definition

IDS = [uuid.UUID(int=number) for number in range(1, 5)]
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def check(
    name: str,
    core: bool,
    satellites: list[uuid.UUID],
    tags: list[str],
    selector: str | None,
    enabled: bool,
) -> Check:
    runs_on = {
        "core": core,
        "satellites": [str(one) for one in satellites],
        "tags": tags,
        "selector": selector,
    }
    wire = definition(name=name, enabled=enabled, runsOn=runs_on)
    return Check(uuid.uuid4(), Definition.model_validate(wire), NOW, "x", NOW, "x")


requirements = st.sampled_from(
    ["x", "!x", "x=", "x=1", "y in (1, 2)", "y in (,3)", "y!=1", "z notin (1,2)", "z=1", "z", "!z"]
)
selectors = st.lists(requirements, min_size=1, max_size=3).map(",".join)
checks = st.lists(
    st.tuples(
        st.sampled_from("abcdef"),
        st.just(True),
        st.lists(st.sampled_from(IDS), max_size=3),
        st.lists(st.sampled_from("xyz"), max_size=3),
        st.none() | selectors,
        st.booleans(),
    ).map(lambda fields: check(*fields)),
    max_size=12,
)


@given(
    checks,
    st.sampled_from(IDS),
    st.lists(st.sampled_from(["x", "y", "z", "w", "x=", "y=1", "not one"]), unique=True),
    st.dictionaries(st.sampled_from("xyz"), st.sampled_from("123")),
)
@example([check("a", True, [], [], "x=", True)], IDS[0], ["x"], {})
@example([check("a", True, [], [], "x in (,1)", True)], IDS[0], ["x="], {})
def test_it_finds_just_those_that_are_assigned(
    found: list[Check], id: uuid.UUID, tags: list[str], labels: dict[str, str]
) -> None:
    satellite = Profile("n", "r", tuple(tags), labels, {}).of(id)
    placed = Placed(found).on(satellite)
    expected = [one for one in found if is_assigned(one, satellite)]
    assert {one.id for one in placed} == {one.id for one in expected}
    assert len(placed) == len(expected)
    assert [one.definition.name for one in placed] == sorted(one.definition.name for one in expected)


def test_a_satellite_is_not_compared_with_selectors_that_ask_for_other_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    matches = Selector.matches

    def counted(selector: Selector, labels: Mapping[str, str]) -> bool:
        asked.append(selector.text)
        return matches(selector, labels)

    wanted = [f"env=prod,site=s{n},role in (web, api)" for n in range(1000)] + ["rack", "!old"]
    placed = Placed([check(f"{n}-{text}", True, [], [], text, True) for text in wanted for n in range(2)])
    monkeypatch.setattr(Selector, "matches", counted)
    labels = {"env": "prod", "site": "s7", "role": "web"}
    satellite = AssignedSatellite(IDS[0], frozenset(f"{k}={v}" for k, v in labels.items()), labels=labels)
    assert len(placed.on(satellite)) == 4
    assert sorted(asked) == ["!old", "env=prod,site=s7,role in (web, api)"]
