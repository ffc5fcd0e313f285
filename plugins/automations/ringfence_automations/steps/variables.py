"""What a script is told of its run: as `context`, and as variables `RINGFENCE_…` for those that have none.

Threat: an event comes from outside, and its names and texts become variables. One could be taken for a variable that
programs go by (`LD_PRELOAD`), stand in the place of another value, or be more than a program can be given. Mechanism:
each name begins with `RINGFENCE_` and a word of ours, and has only `A-Z`, `0-9` and `_`; where several values would
have one name, none of them has it; what is too long or too much is left out whole, never cut, and `RINGFENCE_LEFT_OUT`
names it. Not covered: what a script does with a value (`eval`, an option of a program).

Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ringfence_automations.service import StepFailed

MOST_VARIABLES = 400
MAX_VALUE_BYTES = 32 * 1024
"""The longest value of one variable, in bytes of UTF-8."""
MAX_BYTES = 256 * 1024
"""How much all of them may be together."""
MAX_NAME = 200
MAX_LEFT_OUT_BYTES = 8 * 1024
MAX_CONTEXT_BYTES = 2 * 1024 * 1024
MAX_DEPTH = 16
LEFT_OUT = "RINGFENCE_LEFT_OUT"
_EVERYWHERE = frozenset({"trigger", "event", "inputs", "artifacts", "run"})
_UNFIT = re.compile("[^A-Za-z0-9]")


class Variables(NamedTuple):
    """The variables, and the names of those that were left out."""

    given: dict[str, str]
    left_out: tuple[str, ...]


def context_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """What Python and ESM scripts get: the trigger with the fields of its event, and all else by its name.

    Raises `StepFailed` when it is too large.
    """
    context = {
        "trigger": _with_event(values),
        **{name: values.get(name, {}) for name in ("event", "inputs", "artifacts", "run")},
        **_around(values),
    }
    size = len(json.dumps(context, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))
    if size > MAX_CONTEXT_BYTES:
        raise StepFailed(
            f"the step's context has {size} bytes, and {MAX_CONTEXT_BYTES} is the most: have earlier steps give back "
            "less"
        )
    return context


def variables_of(values: Mapping[str, Any]) -> Variables:
    """What shell scripts get: `RINGFENCE_TRIGGER_STATUS`, `RINGFENCE_ARTIFACT_LOOK_EXITCODE` and so on."""
    found: dict[str, str | None] = {}
    for name, value in _all(values):
        # The same name again: which of them is meant nobody can say.
        found[name] = None if name in found else _text(value)
    given: dict[str, str] = {}
    left_out: list[str] = []
    room = MAX_BYTES
    for name, text in found.items():
        size = 0 if text is None else len(name) + len(text.encode(errors="surrogatepass")) + 2
        if text is None or size > min(MAX_VALUE_BYTES, room) or len(given) == MOST_VARIABLES:
            left_out.append(name)
            continue
        given[name] = text
        room -= size
    if left_out:
        given[LEFT_OUT] = " ".join(left_out)[:MAX_LEFT_OUT_BYTES]
    return Variables(given, tuple(left_out))


def _all(values: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Names and values, those first that we vouch for: what does not fit is what came from outside."""
    yield from _beneath("RINGFENCE_RUN", values.get("run", {}), 0)
    trigger, event = values.get("trigger", {}), values.get("event", {})
    own = dict(_beneath("RINGFENCE_TRIGGER", trigger, 0))
    yield from own.items()
    yield from _beneath("RINGFENCE_INPUT", values.get("inputs", {}), 0)
    # A field of the event does not take the place, nor the name, of what we say of the trigger.
    yield from ((name, value) for name, value in _beneath("RINGFENCE_TRIGGER", event, 0) if name not in own)
    yield from _beneath("RINGFENCE_ARTIFACT", values.get("artifacts", {}), 0)
    yield from _beneath("RINGFENCE_ITEM", _around(values), 0)


def _beneath(name: str, value: object, depth: int) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping) and depth < MAX_DEPTH:
        for key, each in value.items():
            if key and len(name) + len(key) < MAX_NAME:
                yield from _beneath(f"{name}_{_UNFIT.sub('_', key).upper()}", each, depth + 1)
    elif depth or not isinstance(value, Mapping):
        yield name, value


def _text(value: object) -> str | None:
    """A value as a variable's text: a text as it is, null as nothing, all else as JSON; None if it cannot be one."""
    match value:
        case str():
            text = value
        case None:
            text = ""
        case _:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return None if "\0" in text else text


def _around(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a step sees beside what every step does: the item of each `repeat` around it, by its name, and `index`."""
    return {name: value for name, value in values.items() if name not in _EVERYWHERE}


def _with_event(values: Mapping[str, Any]) -> dict[str, Any]:
    """The trigger with the fields of its event beside its own, which come first."""
    event = values.get("event")
    return {**(event if isinstance(event, dict) else {}), **values.get("trigger", {})}
