"""How many results a place may report follows from the schedule."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence_health_checks.results import quota
from ringfence_health_checks.results.quota import BACKLOG_SECONDS, SPARE, Quotas

CHECK, PLACE = uuid.uuid4(), uuid.uuid4()
HOUR = 3600.0


@given(interval=st.floats(1.0, 86_400.0), hours=st.integers(1, 200))
def test_who_reports_by_the_schedule_is_never_refused(interval: float, hours: int) -> None:
    quotas = Quotas()
    for turn in range(min(2000, int(hours * HOUR / interval) + 1)):
        assert quotas.allows(CHECK, PLACE, interval, turn * interval)


def test_a_weeks_backlog_is_taken_at_once_and_no_flood() -> None:
    quotas = Quotas()
    allowed = sum(quotas.allows(CHECK, PLACE, HOUR, 0.0) for _ in range(10_000))
    assert allowed == int(SPARE + BACKLOG_SECONDS / HOUR)


def test_one_place_or_check_uses_nothing_of_anothers() -> None:
    quotas = Quotas()
    while quotas.allows(CHECK, PLACE, HOUR, 0.0):
        pass
    assert quotas.allows(CHECK, uuid.uuid4(), HOUR, 0.0)
    assert quotas.allows(uuid.uuid4(), PLACE, HOUR, 0.0)
    assert quotas.allows(CHECK, PLACE, HOUR / 2, 0.0), "another schedule is another quota"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "MOST_REMEMBERED", 10)
    quotas = Quotas()
    for _ in range(200):
        quotas.allows(uuid.uuid4(), PLACE, HOUR, 0.0)
    assert len(quotas._buckets) == 10
