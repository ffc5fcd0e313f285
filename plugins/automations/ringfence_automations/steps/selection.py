"""A script on several satellites: which are asked next, and what comes of them together. Pure."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ringfence_automations.service import JsonObject, StepResult


class PlaceState(enum.StrEnum):
    """How far the script has come on one satellite."""

    WAITING = "waiting"
    ASKED = "asked"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    LEFT_OUT = "leftOut"

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self not in (PlaceState.WAITING, PlaceState.ASKED)


MAX_BYTES = 192 * 1024
"""How much is kept of what satellites gave back, in bytes of JSON."""
NOT_WELL = (PlaceState.FAILED, PlaceState.UNREACHABLE)


@dataclass(frozen=True, slots=True)
class Next:
    """What to do now: ask at these places, and leave those out for good."""

    ask: tuple[int, ...] = ()
    leave_out: tuple[int, ...] = ()


def next_places(states: Sequence[PlaceState], *, at_once: int, may_fail: int, is_over: bool) -> Next:
    """Which places come next. `is_over`: it was cancelled, or its time is over, and nothing more is begun."""
    waiting = [place for place, state in enumerate(states) if state is PlaceState.WAITING]
    if is_over or sum(state in NOT_WELL for state in states) > may_fail:
        return Next(leave_out=tuple(waiting))
    free = at_once - sum(state is PlaceState.ASKED for state in states)
    return Next(ask=tuple(waiting[: max(0, free)]))


def together(
    states: Sequence[PlaceState],
    results: Sequence[tuple[str, JsonObject, str]],
    *,
    may_fail: int,
    why_over: str,
) -> StepResult:
    """The end of the step: by satellite what its script gave back, and how many it succeeded on, or did not."""
    counts = {state.value: sum(each is state for each in states) for state in PlaceState if state.has_ended}
    not_well = sum(each in NOT_WELL for each in states)
    ok = not_well <= may_fail and not counts[PlaceState.LEFT_OUT]
    said = f"{counts[PlaceState.SUCCEEDED]} of {len(states)} satellites succeeded"
    bad = [
        f"{name}: {message}"
        for (name, _, message), state in zip(results, states, strict=True)
        if state in NOT_WELL
    ]
    message = "; ".join([said, *([why_over] if why_over else []), *bad[:3]])
    by_name: JsonObject = {name: {**artifact, "message": said} for name, artifact, said in results}
    kept = next((each for each in _ever_less(by_name) if _size(each) <= MAX_BYTES), {})
    artifact: JsonObject = {
        "status": "succeeded" if ok else "failed",
        "exitCode": None,
        "satellites": kept,
        "satellitesTruncated": kept != by_name,
        **counts,
    }
    return StepResult(ok, artifact, message[:500])


def _ever_less(by_name: JsonObject) -> Iterator[JsonObject]:
    """What satellites gave back: all of it, then without what they wrote, then of those alone that are not well."""
    yield by_name
    told = ("status", "exitCode", "message", "refused")
    short = {name: {key: each.get(key) for key in told} for name, each in by_name.items()}
    yield short
    yield {name: each for name, each in short.items() if each["status"] != "succeeded"}


def _size(value: JsonObject) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
