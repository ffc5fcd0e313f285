"""What is different between two definitions, by the places where it is. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

_ABSENT = object()
MOST_CHARACTERS = 60


class Difference(NamedTuple):
    """What is at a place, before and after; None where nothing is."""

    path: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"+ {self.path}: {self.after}"
        if self.after is None:
            return f"- {self.path}: {self.before}"
        return f"~ {self.path}: {self.before} → {self.after}"


def differences(before: Any, after: Any, path: str = "") -> Iterator[Difference]:
    """What is different, in the order of what is there before, then of what is new."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            below = f"{path}.{key}" if path else str(key)
            yield from differences(before.get(key, _ABSENT), after.get(key, _ABSENT), below)
    elif isinstance(before, list) and isinstance(after, list):
        for number in range(max(len(before), len(after))):
            one = before[number] if number < len(before) else _ABSENT
            other = after[number] if number < len(after) else _ABSENT
            yield from differences(one, other, f"{path}[{number}]")
    elif before is _ABSENT or after is _ABSENT or before != after:
        yield Difference(path, _short(before), _short(after))


def _short(value: Any) -> str | None:
    if value is _ABSENT:
        return None
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
