"""The metrics of git repositories. No source is named."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from ringfence.metrics import Metric, counter, gauge

from ringfence_gitops.sources.source import Status
from ringfence_gitops.sources.sources import MOST_SOURCES, Sources
from ringfence_gitops.syncing.syncing import Syncing


async def of_sources(sources: Sources, syncing: Syncing) -> Sequence[Metric]:
    """All of them."""
    every = [one for one in await sources.page(limit=MOST_SOURCES) if one.spec.enabled]
    now = dt.datetime.now(dt.UTC)
    ages = [(now - (one.synced_at or one.created_at)).total_seconds() for one in every]
    states: dict[tuple[str, ...], float] = {
        (one.value,): float(sum(source.status is one for source in every)) for one in Status
    }
    return [
        gauge(
            "ringfence_gitops_sources",
            "Git sources that are followed, by how that goes",
            states,
            labels=["state"],
        ),
        gauge("ringfence_gitops_objects", "Objects that come from git", sum(one.objects for one in every)),
        gauge(
            "ringfence_gitops_oldest_sync_seconds",
            "How long ago the source was synced that has not been for longest",
            max(ages, default=0.0),
        ),
        counter(
            "ringfence_gitops_syncs_total",
            "Looks at git sources that this instance has taken, by how they ended",
            {("synced",): 0.0, ("failed",): 0.0, **dict(syncing.ended.items())},
            labels=["end"],
        ),
        counter(
            "ringfence_gitops_drift_total",
            "Objects that this instance has set right since somebody had changed them",
            syncing.drifted,
        ),
    ]
