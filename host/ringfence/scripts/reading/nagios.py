"""What a plugin of the Nagios kind says: a line, performance data, and one of four exit statuses. Pure.

Source: the Monitoring Plugins Development Guidelines (https://www.monitoring-plugins.org/doc/guidelines.html),
sections "Plugin Output for Nagios", "Performance data" and "Threshold and ranges"; the layout of more than one line is
that of the Nagios plugin API (https://assets.nagios.com/downloads/nagioscore/docs/nagioscore/4/en/pluginapi.html).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ringfence.bounded import cleaned
from ringfence.scripts.reading.health import Health
from ringfence.scripts.reading.metrics import MAX_METRIC_WORD, Metric

STATES: Mapping[int, Health] = MappingProxyType(
    {0: Health.HEALTHY, 1: Health.DEGRADED, 2: Health.UNHEALTHY, 3: Health.UNKNOWN}
)
"""The states of the exit statuses OK, WARNING, CRITICAL and UNKNOWN."""

DIRECTORIES = (
    "/usr/lib/nagios/plugins",
    "/usr/lib64/nagios/plugins",
    "/usr/lib/monitoring-plugins",
    "/usr/local/lib/nagios/plugins",
    "/usr/local/nagios/libexec",
    "/usr/local/libexec/nagios",
    "/usr/libexec/nagios",
    "/opt/nagios/plugins",
)
"""Where such plugins are installed: by Debian, Fedora, SUSE, FreeBSD, and from source."""

MOST_DATA = 10_000
"""How many performance data are read."""

_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_VALUE = re.compile(rf"({_NUMBER})([^\d\s;]*)")
_QUOTED = re.compile(r"'((?:[^']|'')*)'=")
_RANGE = re.compile(rf"@?(?:(?:{_NUMBER}|~)?:)?(?:{_NUMBER})?")


@dataclass(frozen=True, slots=True)
class Said:
    """What a plugin has printed: its message, its performance data, and what of that cannot be read."""

    message: str
    metrics: Mapping[str, Metric]
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """A threshold: what lies outside of `low` to `high` (or, `inside`, within) is an alert."""

    low: float
    high: float
    inside: bool = False

    @classmethod
    def read(cls, text: str) -> Range:
        """A range as the guidelines write it: `10`, `10:`, `~:10`, `10:20`, `@10:20`. Raises `ValueError`."""
        rest = text.removeprefix("@")
        if not rest or _RANGE.fullmatch(text) is None:
            raise ValueError(f"{text!r} is no range, which is written like 10, 10:, ~:10, 10:20 or @10:20")
        before, colon, after = rest.partition(":")
        if not colon:
            before, after = "0", before
        low = -math.inf if before == "~" else float(before or 0)
        high = float(after) if after else math.inf
        if low > high:
            raise ValueError(f"the range {text!r} begins above its end")
        return cls(low, high, inside=text.startswith("@"))

    def alerts(self, value: float) -> bool:
        """Whether this value is one to raise an alert for."""
        return (self.low <= value <= self.high) is self.inside


def read_output(stdout: str) -> Said:
    """The message and the performance data of what a plugin has printed.

    The first line is the message up to `|`, and performance data after it. Of the lines below, all is long text until
    the first `|`, and performance data from there on.
    """
    lines = stdout.splitlines()
    first, _, data = (lines[0] if lines else "").partition("|")
    _, _, more = "\n".join(lines[1:]).partition("|")
    metrics, faults = read_data(f"{data} {more}")
    return Said(first.strip(), metrics, faults)


def read_data(text: str) -> tuple[Mapping[str, Metric], tuple[str, ...]]:
    """The metrics in performance data (`'label'=value[unit];[warn];[crit];[min];[max]`), and what cannot be read."""
    text = " ".join(text.split())
    metrics: dict[str, Metric] = {}
    faults: list[str] = []
    twice: set[str] = set()
    at = 0
    while at < len(text):
        name, begin = _label(text, at)
        if not name or len(metrics) == MOST_DATA:
            faults.append(f"{text[at : at + 40]!r} (it is no performance data, or too much of it)")
            break
        end = text.find(" ", begin)
        end = len(text) if end < 0 else end
        try:
            metric, more = _metric(text[begin:end])
        except ValueError as error:
            faults.append(f"{name} ({error})")
        else:
            faults += [f"{fault} of {name}" for fault in more]
            if metrics.setdefault(name, metric) != metric:
                twice.add(name)
        at = end + 1
    # Which of them is meant, nobody can say.
    for name in sorted(twice):
        del metrics[name]
        faults.append(f"{name} (it is there more than once, with different values)")
    return metrics, tuple(faults)


def _label(text: str, at: int) -> tuple[str, int]:
    """The label that stands at this place, and where its value begins; the label is empty if none stands there.

    Plugins forget the quotes around a label with blanks in it, and are understood all the same.
    """
    if (quoted := _QUOTED.match(text, at)) is not None:
        return quoted[1].replace("''", "'"), quoted.end()
    equals = text.find("=", at)
    return ("", at) if equals < 0 else (text[at:equals], equals + 1)


def _metric(text: str) -> tuple[Metric, list[str]]:
    """The metric, and those of its thresholds that are no range. A decimal comma, as some locales print, is a point.

    Raises `ValueError` saying why it is none.
    """
    value, *rest = text.replace(",", ".").split(";")
    if value.startswith("U"):
        raise ValueError("the plugin could not determine it")
    found = _VALUE.fullmatch(value)
    if found is None:
        raise ValueError(f"its value {value[:40]!r} is no number")
    number = float(found[1])
    if not math.isfinite(number):
        raise ValueError("it is not finite")
    warn, crit, least, most = (*rest, "", "", "", "")[:4]
    thresholds = {name: text for name, text in (("warn", warn), ("crit", crit)) if text}
    faults = [f"the threshold {text[:40]!r}" for text in thresholds.values() if not _is_range(text)]
    metric = Metric(
        number,
        cleaned(found[2], MAX_METRIC_WORD) or None,
        warn if _is_range(warn) else None,
        crit if _is_range(crit) else None,
        _bound(least),
        _bound(most),
    )
    return metric, faults


def _is_range(text: str) -> bool:
    try:
        Range.read(text)
    except ValueError:
        return False
    return len(text) <= MAX_METRIC_WORD


def _bound(text: str) -> float | None:
    found = _VALUE.fullmatch(text)
    return None if found is None or not math.isfinite(number := float(found[1])) else number
