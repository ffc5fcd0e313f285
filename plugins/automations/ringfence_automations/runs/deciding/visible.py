"""What the expressions of a step can see: the trigger, the artifacts of steps that have ended, and elements."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ringfence_automations.runs.deciding.plan import Plan, Repeat, id_at
from ringfence_automations.runs.deciding.records import Record

_ROUND = re.compile(r"\[(\d+)\](?=\.)")


def rounds_of(path: str) -> list[str]:
    """The rounds of repeats in which a path is, outermost first: `a[1].b[2].c` is in `a[1]` and in `a[1].b[2]`."""
    return [path[: match.end()] for match in _ROUND.finditer(path)]


class Visible:
    """The values for expressions at any path of one run.

    A step sees the artifacts of its own round, and of all that is around it. Of a repeat that has begun, it sees those
    of all rounds, as `artifacts.<repeat>.rounds[3].<step>`.
    """

    def __init__(self, plan: Plan, records: Iterable[Record], values: Mapping[str, Any]) -> None:
        self._plan = plan
        self._values = values
        self._artifacts: dict[str, dict[str, Any]] = {"": {}}
        self._items: dict[str, dict[str, Any]] = {}
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Take in what a record has become."""
        step = self._plan.step_at(record.path)
        if isinstance(step, Repeat) and "items" in record.state:
            for number, item in enumerate(record.state["items"][: record.state["begun"]]):
                self.choose(record.path, number, step.name, item)
            status = {"status": record.status.value} if record.status.has_ended else {}
            self._round_of(record.path)[step.id] = {"rounds": self._rounds(record), **status}
        elif record.status.has_ended:
            self._round_of(record.path)[id_at(record.path)] = {
                "status": record.status.value,
                **(record.artifact or {}),
            }

    def choose(self, repeat: str, number: int, name: str, item: Any) -> None:
        """A round of a repeat has begun."""
        self._items[f"{repeat}[{number}]"] = {name: item, "index": number}

    def values_at(self, path: str) -> dict[str, Any]:
        """What an expression of the step at this path may use."""
        artifacts = dict(self._artifacts[""])
        items: dict[str, Any] = {}
        for one in rounds_of(path):
            artifacts |= self._artifacts.get(one, {})
            items |= self._items.get(one, {})
        return {**self._values, **items, "artifacts": artifacts}

    def _round_of(self, path: str) -> dict[str, Any]:
        rounds = rounds_of(path)
        return self._artifacts.setdefault(rounds[-1] if rounds else "", {})

    def _rounds(self, record: Record) -> list[dict[str, Any]]:
        return [
            self._artifacts.setdefault(f"{record.path}[{number}]", {})
            for number in range(record.state["begun"])
        ]
