"""What a definition does, as lists of steps within steps: what the template draws, and people read. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ringfence.spans import span_of

from ringfence_automations.definitions.step import Choose, OnInterrupted, Parallel, Repeat, Step, Stop, Wait

MOST_CHARACTERS = 160
_ROUND = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class State:
    """How far a step is; of one that was reached several times, how often it is in each state."""

    words: str
    status: str


@dataclass(frozen=True, slots=True)
class Lane:
    """Steps one after another, within another step; `label` says when they are done."""

    label: str
    steps: tuple[Drawn, ...]


@dataclass(frozen=True, slots=True)
class Drawn:
    """One step: what it does in a line, what else is said of it, and what is within it.

    `is_beside`: what is within is done at the same time.
    """

    id: str
    kind: str
    does: str
    notes: tuple[str, ...]
    lanes: tuple[Lane, ...] = ()
    is_beside: bool = False
    state: State | None = None


def drawn(
    steps: Iterable[Step], states: Mapping[str, State] | None = None, before: str = ""
) -> tuple[Drawn, ...]:
    """The picture of steps; with the `states` of a run, by place."""
    return tuple(_one(step, states or {}, before) for step in steps)


def states_of(by_path: Mapping[str, str]) -> dict[str, State]:
    """The states of steps by place, from those by path: in rounds of a repeat, a place is there several times."""
    places: dict[str, Counter[str]] = {}
    for path, status in by_path.items():
        places.setdefault(_ROUND.sub("", path), Counter())[status] += 1
    return {place: _state(counted) for place, counted in places.items()}


def _state(counted: Counter[str]) -> State:
    order = ("running", "waiting", "interrupted", "failed", "cancelled", "succeeded", "skipped")
    worst = next((one for one in order if one in counted), "skipped")
    if counted.total() == 1:
        return State(worst, worst)
    return State(", ".join(f"{counted[one]} {one}" for one in order if counted[one]), worst)


def _one(step: Step, states: Mapping[str, State], before: str) -> Drawn:
    place = f"{before}{step.id}"
    body = step.body
    return Drawn(
        id=step.id,
        kind=step.kind,
        does=cut(_does(step.kind, body)),
        notes=tuple(map(cut, _notes(step))),
        lanes=tuple(_lanes(body, states, place)),
        is_beside=isinstance(body, Parallel),
        state=states.get(place),
    )


def _lanes(body: Any, states: Mapping[str, State], place: str) -> Iterator[Lane]:
    match body:
        case Choose():
            for number, option in enumerate(body.options, start=1):
                within = drawn(option.steps, states, f"{place}.{number}.")
                yield Lane(f"{'if' if number == 1 else 'or else, if'} {option.when}", within)
            if body.otherwise:
                yield Lane("otherwise", drawn(body.otherwise, states, f"{place}.otherwise."))
        case Parallel():
            for number, branch in enumerate(body.branches, start=1):
                yield Lane(f"branch {number}", drawn(branch, states, f"{place}.{number}."))
        case Repeat():
            yield Lane(f"for each {body.as_}", drawn(body.steps, states, f"{place}."))


def _does(kind: str, body: Any) -> str:
    match body:
        case Wait(for_=seconds) if seconds is not None:
            return f"until {span_of(seconds)} have passed"
        case Wait(until=condition) if condition is not None:
            return f"until {condition}, looking every {span_of(body.every)}"
        case Wait(event=event) if event is not None:
            return f"for the event {event.hook}" + (f" with {event.filter}" if event.filter else "")
        case Choose():
            return "the first that holds of these"
        case Parallel():
            return f"{len(body.branches)} branches at the same time"
        case Repeat():
            at_once = f", {body.at_once} at a time" if body.at_once > 1 else ", one after another"
            return f"for each {body.as_} of {body.over}, {body.max} at most{at_once}"
        case Stop():
            return f"the run ends here, {body.status.value}" + (f": {body.message}" if body.message else "")
        case dict():
            return _acts(kind, body)
        case _:
            return ""


_SCRIPTS = ("run_shell", "run_script")


def _acts(kind: str, body: Mapping[str, Any]) -> str:
    if kind in _SCRIPTS:
        return _script(body)
    if kind == "http":
        method = body.get("method") or ("POST" if "body" in body or "json" in body else "GET")
        return f"{method} {body.get('url', '')}"
    if kind == "notify":
        return f"to {body.get('channel', '')}: {body.get('text', '')}"
    return ", ".join(f"{name}: {value}" for name, value in body.items())


def _script(body: Mapping[str, Any]) -> str:
    if body.get("command"):
        return " ".join(map(str, body["command"]))
    lines = [line for line in str(body.get("script", "")).splitlines() if line.strip()]
    return f"{lines[0].strip()} … {len(lines)} lines" if len(lines) > 1 else "".join(lines).strip()


def _where(on: Any) -> str:
    if isinstance(on, Mapping):
        if "selector" in on:
            return f"on each satellite with {on['selector']}"
        return f"on {on.get('satellite')}"
    return f"on {on}" if on else "on this host"


def _notes(step: Step) -> Iterator[str]:
    if step.kind in _SCRIPTS and isinstance(step.body, dict):
        yield _where(step.body.get("on"))
    if step.when is not None:
        yield f"only if {step.when}"
    if (seconds := step.timeout_seconds) is not None:
        yield f"{span_of(seconds)} at most"
    if step.retry is not None:
        yield f"tried {step.retry.attempts} times, {span_of(step.retry.delay)} apart"
    if step.continue_on_error:
        yield "the run goes on if it fails"
    if step.on_interrupted is not OnInterrupted.FAIL:
        yield f"if its instance is lost: {step.on_interrupted.value}"


def cut(text: str) -> str:
    """A text of one line that is not too long to read."""
    line = " ".join(text.split())
    return line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 1]}…"
