"""The metrics of checks: how they are, and which results come in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ringfence.metrics import Metric, counter, gauge

from ringfence_health_checks.results.results import Results
from ringfence_health_checks.states.current_states import DISABLED
from ringfence_health_checks.states.overview import STATES, Overview


async def of_checks(overview: Overview, results: Results) -> Sequence[Metric]:
    """How many checks are how. No check is named: their names are their users' to choose."""
    groups = await overview.groups()
    states, places = Counter[str](), Counter[str]()
    for one in groups:
        states[one.state] += one.checks
        if one.state != DISABLED:
            told = (one.unhealthy, one.unknown, one.degraded, one.healthy)
            places.update(dict(zip(STATES, told, strict=False)))
    return [
        gauge(
            "ringfence_checks",
            "Checks by the worst state of their places",
            {(state,): float(states[state]) for state in STATES},
            labels=["state"],
        ),
        gauge(
            "ringfence_check_places",
            "Places of checks that are enabled, by their state",
            {(state,): float(places[state]) for state in STATES if state != DISABLED},
            labels=["state"],
        ),
        gauge(
            "ringfence_checks_silenced",
            "Checks whose alarms are silenced at the moment",
            sum(one.quiet for one in groups),
        ),
        gauge(
            "ringfence_check_places_stale",
            "Places of checks from which no fresh result has come",
            sum(one.stale for one in groups),
        ),
        counter(
            "ringfence_check_results_total",
            "Results of checks that this instance has taken in, by status; set-aside: they could not be stored",
            results.stored,
            labels=["status"],
        ),
    ]
