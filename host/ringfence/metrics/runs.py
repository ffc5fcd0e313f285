"""The metrics of the runs of this process: of a host, or of an agent."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.metrics.families import Metric, counter, gauge, histogram
from ringfence.scripts.running.runner import runner


async def of_runs() -> Sequence[Metric]:
    """What the process's runner has counted."""
    running = runner()
    tally = running.tally
    return [
        counter(
            "ringfence_runs_total",
            "Runs of this process that have ended, by the kind of script (none: nothing was started) and how",
            tally.ended,
            labels=["kind", "end"],
        ),
        histogram(
            "ringfence_run_duration_seconds",
            "How long scripts ran, from their start until their processes were gone",
            tally.durations,
            labels=["kind"],
        ),
        gauge("ringfence_runs_running", "Runs that have a place at the moment", tally.running.now),
        gauge("ringfence_runs_waiting", "Runs that wait for a free place", tally.waiting.now),
        gauge(
            "ringfence_runs_places",
            "How many runs may have a place at once",
            running.settings.max_concurrent_runs,
        ),
        histogram("ringfence_run_queue_seconds", "How long runs waited for a free place", tally.queued),
        gauge(
            "ringfence_warm_sandboxes", "Sandboxes that are prepared and wait for a run", len(running.pool)
        ),
        counter(
            "ringfence_warm_sandboxes_used_total", "Runs that got a sandbox that was waiting", tally.warm_used
        ),
        counter(
            "ringfence_warm_sandboxes_missed_total",
            "Runs whose sandbox had to be made first",
            tally.warm_missed,
        ),
        counter(
            "ringfence_run_refusals_total",
            "Refused runs, by each layer of the sandbox that could not be had",
            tally.refused,
            labels=["layer"],
        ),
        counter(
            "ringfence_egress_refused_total",
            "Names and destinations on the network that runs tried and the policy did not allow",
            tally.egress_refused,
        ),
    ]
