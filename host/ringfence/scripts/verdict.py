"""What a run says about the system that its script looks at: healthy, degraded or unhealthy.

A script decides by how it ends, and may say more in its JSON value (a shell script: in the last line that it prints,
if that is a JSON object):

    {"status": "degraded", "message": "replica lags", "metrics": {"lagSeconds": 12.5}}

- exit status 0 is healthy, unless the value's `status` says otherwise;
- any other exit status is unhealthy, whatever the value says, as is a value that cannot be taken;
- a run that was refused by the sandbox, or stopped (for its time, memory, output …), is unhealthy, with the reason.

Pure. The value comes from inside a sandbox: it is bounded here, and nothing in it is trusted to have a type.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ringfence.scripts.request import ScriptKind
from ringfence.scripts.result import RunResult, Stopped

MAX_MESSAGE = 500
MAX_METRICS = 64
MAX_METRIC_NAME = 100
MAX_STATUS_LINE = 64 * 1024
MAX_OUTPUT = 4096
"""How many characters of the end of a run's output are kept with its verdict."""

_REASONS = {
    Stopped.TIMEOUT: "it did not end within its timeout",
    Stopped.OUTPUT: "it wrote more than maxOutputBytes",
    Stopped.MEMORY: "it used more than memoryBytes",
    Stopped.FILES: "it wrote more files than its scratch space holds",
    Stopped.VALUE: "the value that it gave back is too large",
    Stopped.UNWATCHED: "what it used could not be seen",
    Stopped.OTHER: "the satellite gave a reason that this release does not know",
}


class Health(enum.StrEnum):
    """The state of a system."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state, a line for people about it, and numbers by name."""

    status: Health
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def to_wire(self) -> dict[str, Any]:
        """The message and the metrics as JSON."""
        return {"message": self.message, "metrics": dict(self.metrics)}


def judge(kind: ScriptKind, result: RunResult) -> Verdict:
    """What `result` says. See the module's text for the rules."""
    if result.refused:
        reasons = "; ".join(f"{one.layer}: {one.reason}" for one in result.sandbox.downgrades)
        return _unhealthy(f"refused by the sandbox: {reasons or 'no reason was given'}")
    if result.stopped is not None:
        return _unhealthy(f"stopped: {_REASONS[result.stopped]}")
    said = _said(kind, result)
    metrics = metrics_of(said.get("metrics"))
    message = said.get("message", "")
    message = message if isinstance(message, str) else ""
    if result.exit_code:
        ended = f"exit status {result.exit_code}" if result.exit_code > 0 else f"signal {-result.exit_code}"
        return _unhealthy(message or _last_line(result.stderr) or ended, metrics)
    if result.value_error is not None:
        return _unhealthy(f"its value cannot be taken: {result.value_error}", metrics)
    status = said.get("status", Health.HEALTHY)
    try:
        health = Health(str(status))
    except ValueError:
        return _unhealthy(
            f"it gave the status {str(status)[:40]!r}; it may give {', '.join(Health)}", metrics
        )
    return Verdict(health, shortened(message or _last_line(result.stdout)), metrics)


def kept(result: RunResult) -> dict[str, Any]:
    """What is kept of a run beside its verdict, as JSON: how it ended, the ends of its output, the sandbox's report."""
    wire = result.model_dump(
        mode="json", by_alias=True, include={"exit_code", "stopped", "duration_ms", "timing", "sandbox"}
    )
    return {**wire, "stdout": result.stdout[-MAX_OUTPUT:], "stderr": result.stderr[-MAX_OUTPUT:]}


def metrics_of(value: object) -> Mapping[str, float]:
    """The numbers by name in `value`; whatever else is in it is left out, and so is what is too much."""
    if not isinstance(value, dict):
        return MappingProxyType({})
    numbers = {
        _readable(str(name)[:MAX_METRIC_NAME]): float(number)
        for name, number in value.items()
        if isinstance(number, int | float) and _is_finite(number)
    }
    return MappingProxyType(dict(list(numbers.items())[:MAX_METRICS]))


def shortened(text: str) -> str:
    """At most `MAX_MESSAGE` characters of `text`, with an ellipsis for what was left out."""
    text = _readable(text)
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"


def _readable(text: str) -> str:
    """Without the halves of surrogate pairs, which a script's JSON may hold and no UTF-8 can."""
    return text.encode(errors="replace").decode()


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(float(number))
    except OverflowError:  # an integer beyond what a float can hold
        return False


def _said(kind: ScriptKind, result: RunResult) -> Mapping[str, object]:
    value = result.value
    if value is None and kind is ScriptKind.SHELL:
        line = _last_line(result.stdout)
        if line.startswith("{") and len(line) <= MAX_STATUS_LINE:
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
    return value if isinstance(value, dict) else {}


def _unhealthy(message: str, metrics: Mapping[str, float] | None = None) -> Verdict:
    return Verdict(Health.UNHEALTHY, shortened(message), metrics or MappingProxyType({}))


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
