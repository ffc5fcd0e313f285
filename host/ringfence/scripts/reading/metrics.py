"""Numbers that a script tells of, with their unit, thresholds and bounds. Pure.

They come from inside a sandbox: each is bounded here, and what is left out is named, never dropped in silence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ringfence.bounded import cleaned

MAX_METRICS = 64
MAX_METRIC_NAME = 100
MAX_METRIC_WORD = 64
"""The longest unit or threshold."""
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Metric:
    """A number. `warn` and `crit` are ranges as monitoring plugins write them (`10`, `5:`, `@10:20`)."""

    value: float
    unit: str | None = None
    warn: str | None = None
    crit: str | None = None
    min: float | None = None
    max: float | None = None

    def to_object(self) -> dict[str, float | str]:
        """The metric as a JSON object; what it has not is not in it."""
        parts = {
            "value": self.value,
            "unit": self.unit,
            "warn": self.warn,
            "crit": self.crit,
            "min": self.min,
            "max": self.max,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def to_wire(self) -> float | dict[str, float | str]:
        """The metric as JSON: a bare number where there is no more to tell, which older releases read too."""
        told = self.to_object()
        return self.value if len(told) == 1 else told


@dataclass(frozen=True, slots=True)
class Metrics:
    """Metrics by name, and a sentence for what was left out."""

    by_name: Mapping[str, Metric]
    notes: tuple[str, ...] = ()


NO_METRICS = Metrics(MappingProxyType({}))


def read_metrics(value: object) -> Metrics:
    """The metrics in a JSON value: an object of numbers, or of objects with a `value`."""
    if value is None:
        return NO_METRICS
    if not isinstance(value, dict):
        return Metrics(MappingProxyType({}), (f"the metrics are left out: {_named(value)} is no object",))
    found: dict[str, Metric] = {}
    faults: list[str] = []
    for name, one in value.items():
        metric = _metric(one)
        if isinstance(metric, Metric):
            found[str(name)] = metric
        else:
            faults.append(f"{_short(str(name))} ({metric})")
    return bounded(found, faults)


def bounded(found: Mapping[str, Metric], faults: list[str] | tuple[str, ...] = ()) -> Metrics:
    """At most `MAX_METRICS` of these, with names of at most `MAX_METRIC_NAME` characters."""
    kept: dict[str, Metric] = {}
    left_out = list(faults)
    for name, metric in found.items():
        if len(name) > MAX_METRIC_NAME:
            left_out.append(f"{_short(name)} (its name has more than {MAX_METRIC_NAME} characters)")
        elif len(kept) == MAX_METRICS:
            left_out.append(f"{_short(name)} (there are more than {MAX_METRICS})")
        else:
            kept[cleaned(name)] = metric
    return Metrics(MappingProxyType(kept), _told(left_out))


def finite(number: object) -> float | None:
    """A number as a finite float; None for what is none, or beyond what a float can hold."""
    if not isinstance(number, int | float):
        return None
    try:
        value = float(number)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def _metric(one: object) -> Metric | str:
    """The metric that a JSON value is, or why it is none."""
    if isinstance(one, int | float):
        value = finite(one)
        return "it is not finite" if value is None else Metric(value)
    if not isinstance(one, dict):
        return f"it is {_named(one)}, not a number"
    value = finite(one.get("value"))
    if value is None:
        return "its value is no finite number"
    return Metric(
        value,
        _word(one.get("unit")),
        _range(one.get("warn")),
        _range(one.get("crit")),
        finite(one.get("min")),
        finite(one.get("max")),
    )


def _word(value: object) -> str | None:
    return cleaned(value, MAX_METRIC_WORD) if isinstance(value, str) and value else None


def _range(value: object) -> str | None:
    number = finite(value)
    return f"{number:g}" if number is not None else _word(value)


def _named(value: object) -> str:
    names: dict[type[Any], str] = {
        type(None): "null",
        bool: "true or false",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "a number")


def _told(faults: list[str]) -> tuple[str, ...]:
    if not faults:
        return ()
    more = len(faults) - _MOST_NAMED
    named = ", ".join(faults[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    return (f"metrics that are left out: {named}",)


def _short(name: str) -> str:
    name = cleaned(name)
    return name if len(name) <= 40 else f"{name[:39]}…"
