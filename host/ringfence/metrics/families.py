"""Metrics as Prometheus reads them, made of what was counted.

Names begin with `ringfence_` and end with a base unit (`_seconds`, `_bytes`); those of counters end with `_total`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from ringfence.counting import Counts, Distribution, Distributions, Labels

__all__ = ["Metric", "counter", "gauge", "histogram"]

MOST_LETTERS = 100
"""Of the value of a label."""


def gauge(
    name: str, help: str, value: float | Mapping[Labels, float], *, labels: Sequence[str] = ()
) -> Metric:
    """What is so at the moment: one number, or one for each set of labels."""
    family = GaugeMetricFamily(name, help, labels=labels)
    for values, number in _by_labels(value):
        family.add_metric(_cut(values), number)
    return family


def counter(
    name: str, help: str, value: float | Counts | Mapping[Labels, float], *, labels: Sequence[str] = ()
) -> Metric:
    """What has happened so often since this process began. The name ends with `_total`.

    A counter without labels that has not counted anything yet is told as 0.
    """
    if not name.endswith("_total"):
        raise ValueError(f"the name of the counter {name} must end with _total")
    family = CounterMetricFamily(name, help, labels=labels)
    told = value.items() if isinstance(value, Counts) else _by_labels(value)
    for values, number in told or ([] if labels else [((), 0.0)]):
        family.add_metric(_cut(values), number)
    return family


def histogram(
    name: str, help: str, value: Distribution | Distributions, *, labels: Sequence[str] = ()
) -> Metric:
    """How values are distributed: durations in seconds, mostly."""
    family = HistogramMetricFamily(name, help, labels=labels)
    told = value.items() if isinstance(value, Distributions) else [((), value)]
    for values, distribution in told:
        buckets = [(_bound(bound), float(count)) for bound, count in distribution.cumulative()]
        family.add_metric(_cut(values), buckets, distribution.sum)
    return family


def _by_labels(value: float | Mapping[Labels, float]) -> Iterable[tuple[Labels, float]]:
    return list(value.items()) if isinstance(value, Mapping) else [((), value)]


def _bound(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else repr(bound)


def _cut(labels: Labels) -> Sequence[str]:
    return [one[:MOST_LETTERS] for one in labels]
