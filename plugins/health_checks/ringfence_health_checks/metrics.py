"""The metrics of checks: how they are, and which results come in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ringfence.metrics import Metric, counter, gauge

from ringfence_health_checks.results.results import Results
from ringfence_health_checks.states.overview import STATES, Overview


async def of_checks(overview: Overview, results: Results) -> Sequence[Metric]:
    """How many checks are how. No check is named: their names are their users' to choose."""
    standings = await overview.standings()
    states = Counter(one.state for one in standings)
    places = Counter[str]()
    for one in standings:
        places.update({state: count for state, count in one.counts if one.enabled})
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
            {(state,): float(places[state]) for state in STATES if state != "disabled"},
            labels=["state"],
        ),
        gauge(
            "ringfence_checks_silenced",
            "Checks whose alarms are silenced at the moment",
            sum(one.is_quiet for one in standings),
        ),
        gauge(
            "ringfence_check_places_stale",
            "Places of checks from which no fresh result has come",
            sum(one.stale for one in standings),
        ),
        counter(
            "ringfence_check_results_total",
            "Results of checks that this instance has taken in, by status; set-aside: they could not be stored",
            results.stored,
            labels=["status"],
        ),
    ]
