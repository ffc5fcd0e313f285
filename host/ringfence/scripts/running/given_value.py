"""The value that a script gives back: it comes from inside, so it is read as a stranger's JSON."""

from __future__ import annotations

import json
import math

from ringfence.sandbox.launch.supervision.supervise import Outcome

MAX_VALUE_BYTES = 1024 * 1024
"""The largest value, as JSON, that a script can give back."""

MAX_VALUE_DEPTH = 100
"""How deep the lists and objects of a value may be nested: what sends and stores results stops at some depth too."""


def value_of(outcome: Outcome) -> tuple[object, str | None]:
    """What the script gave back. It comes from inside, so it is parsed as a stranger's JSON."""
    if outcome.value_too_large:
        return None, f"the value is larger than {MAX_VALUE_BYTES} bytes"
    if outcome.value is None:
        return None, None
    try:
        # As text first: from bytes, `json` would take other encodings than UTF-8, and halves of pairs.
        text = outcome.value.decode()
        value = json.loads(text, parse_float=_finite, parse_constant=_finite)
        if r"\ud" in text.lower():
            # Half of a pair is no character, though `json` takes it: nobody could send or store it.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        return None, f"the value is not JSON: {error}"
    if _is_deeper(value, MAX_VALUE_DEPTH):
        return None, f"the value is nested more than {MAX_VALUE_DEPTH} deep"
    return value, None


def _finite(text: str) -> float:
    """A number of JSON, which `NaN`, `Infinity` and what is too large for a float are not, though `json` takes them."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number")
    return number


def _is_deeper(value: object, most: int) -> bool:
    """Whether lists and objects are nested more than `most` deep; level by level, so that no depth is too much."""
    level = [value]
    for _ in range(most + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True
