"""What is said of a system after a run: a state, a line for people, numbers, and what each assertion came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ringfence.bounded import cleaned
from ringfence.scripts.reading.health import Health
from ringfence.scripts.reading.metrics import Metric

MAX_MESSAGE = 500
MAX_NOTES = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one assertion. `state` is what it makes of the system; `actual` is what was found."""

    assertion: str
    state: Health
    actual: str = ""

    @property
    def held(self) -> bool:
        """Whether what it says was so."""
        return self.state is Health.HEALTHY

    @classmethod
    def told(cls, wire: object) -> Outcome:
        """The outcome that somebody else tells of; whatever in it is not as it should be is unknown."""
        said = wire if isinstance(wire, dict) else {}
        state = said.get("state")
        return cls(
            shortened(str(said.get("assertion", ""))),
            Health(state) if isinstance(state, str) and state in set(Health) else Health.UNKNOWN,
            shortened(str(said.get("actual", ""))),
        )

    def to_wire(self) -> dict[str, Any]:
        """The outcome as JSON."""
        return {
            "assertion": self.assertion,
            "held": self.held,
            "state": self.state.value,
            "actual": self.actual,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is said of a system. `notes` are sentences about what was left out or read in another way than meant."""

    status: Health
    message: str = ""
    metrics: Mapping[str, Metric] = field(default_factory=lambda: MappingProxyType({}))
    assertions: tuple[Outcome, ...] = ()
    notes: tuple[str, ...] = ()

    def to_wire(self) -> dict[str, Any]:
        """All but the state as JSON; a metric of which there is no more to tell is a bare number."""
        wire: dict[str, Any] = {
            "message": self.message,
            "metrics": {name: metric.to_wire() for name, metric in self.metrics.items()},
        }
        if self.assertions:
            wire["assertions"] = [one.to_wire() for one in self.assertions]
        if self.notes:
            wire["notes"] = list(self.notes)
        return wire


def unknown(message: str) -> Verdict:
    """The verdict of whoever could not look, and says why."""
    return Verdict(Health.UNKNOWN, shortened(message))


def shortened(text: str) -> str:
    """At most `MAX_MESSAGE` characters of `text` that can be stored, with an ellipsis for what was left out."""
    text = cleaned(text)
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"
