"""What a result tells beside its verdict, made ready to be shown. Pure.

A satellite may send anything as the report of a run: what is not as it should be is left out here, and can be seen in
the report as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ringfence.scripts.reading import Assertion, AssertionSyntaxError
from ringfence.scripts.reading.assertions import Quantity, Source

MOST_SHOWN = 50
_LAYERS = {"filesystem": "file system", "privilege": "privileges", "syscalls": "system calls"}
_ORDERS = ("<", "<=", ">", ">=")


@dataclass(frozen=True, slots=True)
class Report:
    """What of the sandbox held in a run, what did not and why, and what there is to know besides."""

    held: Sequence[str] = ()
    not_held: Sequence[str] = ()
    why: Sequence[str] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.held or self.not_held or self.why)


def report_of(detail: Mapping[str, Any]) -> Report:
    """The report of a run in words."""
    sandbox = detail.get("sandbox")
    if not isinstance(sandbox, dict):
        return Report()
    enforced = sandbox.get("enforced")
    layers = enforced if isinstance(enforced, dict) else {}
    told = [(_LAYERS.get(str(name), str(name)), value) for name, value in list(layers.items())[:MOST_SHOWN]]
    return Report(
        [name for name, value in told if value is True],
        [name for name, value in told if value is False],
        [*_texts(sandbox.get("downgrades")), *_texts(sandbox.get("notes")), *_texts(sandbox.get("omitted"))],
    )


def metrics_of(metrics: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Metrics with their units, as texts."""
    return [(str(name), _with_unit(told)) for name, told in list(metrics.items())[:MOST_SHOWN]]


def assertions_of(detail: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """What became of the assertions; of each `assertion`, `held` and `actual`."""
    told = detail.get("assertions")
    rows = [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []
    return [
        {
            "assertion": str(one.get("assertion", "")),
            "held": one.get("held") is True,
            "actual": str(one.get("actual", "")),
        }
        for one in rows[:MOST_SHOWN]
    ]


def output_of(detail: Mapping[str, Any]) -> Mapping[str, str]:
    """What was printed."""
    return {name: str(detail[name]) for name in ("stdout", "stderr") if detail.get(name)}


def limits_of(
    assertions: Sequence[str], metric: str | None, unit: str, ranges: Mapping[str, str | None]
) -> Sequence[Mapping[str, Any]]:
    """The thresholds of a chart: those of the check's assertions about a metric, or about the latency, and its own."""
    found = []
    for text in assertions:
        try:
            one = Assertion.read(text)
        except AssertionSyntaxError:
            continue  # It holds what only a place knows.
        source, subject = (Source.RUN, "latencyMs") if metric is None else (Source.METRIC, metric)
        if one.source is source and one.subject == subject and one.operator in _ORDERS:
            value = _in_unit(one.value, "ms" if metric is None else unit)
            if value is not None:
                found.append(
                    {"name": text, "value": value, "kind": "bad" if one.otherwise == "unhealthy" else "warn"}
                )
    for name, kind in (("warning", "warn"), ("critical", "bad")):
        found += [{"name": name, "value": one, "kind": kind} for one in _ends(ranges.get(name))]
    return found


def _in_unit(value: object, unit: str) -> float | None:
    if not isinstance(value, Quantity):
        return None
    if value.unit is None or value.unit == unit:
        return value.value
    amount, dimension = value.base()
    size, own = Quantity(1.0, unit or None).base()
    return amount / size if dimension == own else None


def _ends(range: str | None) -> Sequence[float]:
    """The ends of a range as monitoring plugins write it (`10`, `5:`, `@10:20`, `~:5`)."""
    found = []
    for end in (range or "").removeprefix("@").split(":")[:2]:
        try:
            found.append(float(end))
        except ValueError:
            continue
    return found


def _with_unit(told: object) -> str:
    if isinstance(told, dict):
        value, unit = told.get("value"), told.get("unit")
        return f"{_short(value)} {unit}" if unit else _short(value)
    return _short(told)


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _texts(told: object) -> Sequence[str]:
    many = told if isinstance(told, list) else [told] if told else []
    return [_text(one) for one in many[:MOST_SHOWN]]


def _text(one: object) -> str:
    if isinstance(one, dict):
        return ": ".join(
            str(one[name]) for name in ("layer", "reason", "note", "text", "detail") if one.get(name)
        ) or str(one)
    return str(one)
