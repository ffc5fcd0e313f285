"""What the kernel says of this process, by the names that every Prometheus client has for it (`process_…`)."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import ProcessCollector

from ringfence.metrics.families import Metric

_PROCESS = ProcessCollector(registry=None)


async def of_process() -> Sequence[Metric]:
    """Memory, processor time, open files, and when it began."""
    return list(_PROCESS.collect())
