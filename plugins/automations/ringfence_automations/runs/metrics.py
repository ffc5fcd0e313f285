"""The metrics of automations: how many runs are under way, and how those that ended have ended. None is named."""

from __future__ import annotations

from collections.abc import Sequence

from ringfence import PluginContext
from ringfence.metrics import Counts, Metric, counter, gauge

from ringfence_automations.runs.tables import seen


async def of_runs(context: PluginContext, ended: Counts) -> Sequence[Metric]:
    """All of them."""
    async with context.sessions() as session:
        running, waiting = await seen.under_way(session)
    return [
        gauge(
            "ringfence_automation_runs_under_way",
            "Runs of automations that are under way, by state",
            {("running",): float(running), ("queued",): float(waiting)},
            labels=["state"],
        ),
        counter(
            "ringfence_automation_runs_total",
            "Runs of automations of whose end this instance has told, by how they ended",
            ended,
            labels=["end"],
        ),
    ]
