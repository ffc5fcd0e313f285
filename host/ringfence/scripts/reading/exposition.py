"""Metrics in the text format of Prometheus. Pure.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (text-based format); it is read by Prometheus' own
library, `prometheus-client`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ringfence.scripts.reading.metrics import Metric


class ExpositionError(ValueError):
    """The text is no exposition; the message says why."""


def read_exposition(text: str) -> tuple[dict[str, Metric], list[str]]:
    """The samples by their name with its labels (`http_requests_total{code="200"}`), and those that are not finite.

    Raises `ExpositionError`.
    """
    metrics: dict[str, Metric] = {}
    faults: list[str] = []
    twice: set[str] = set()
    for name, value in _samples(text):
        if not math.isfinite(value):
            faults.append(f"{name} (it is not finite)")
        elif metrics.setdefault(name, Metric(value)) != Metric(value):
            twice.add(name)
    # Which of them is meant, nobody can say.
    for name in sorted(twice):
        del metrics[name]
        faults.append(f"{name} (it is there more than once, with different values)")
    return metrics, faults


def _samples(text: str) -> Iterator[tuple[str, float]]:
    # It is needed by few scripts, and takes its time to load.
    from prometheus_client.parser import text_string_to_metric_families

    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f'{name}="{_escaped(label)}"' for name, label in sample.labels.items())
                yield sample.name + (f"{{{labels}}}" if labels else ""), float(sample.value)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        # The library tells what it cannot read by whatever it stumbles over.
        raise ExpositionError(f"what it printed is not the text format of Prometheus: {error}") from error


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
