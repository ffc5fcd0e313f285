"""What satellites tell of themselves, in words for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ringfence.sandbox.capabilities.advice import advice
from ringfence.sandbox.capabilities.reported import from_wire

from ringfence_satellite.server.satellites import Satellite

STATES = {"online": ("online", "good"), "offline": ("offline", "bad"), "never": ("never connected", "off")}
"""Each status in words, and how it is shown."""
LAYERS = {
    "filesystem": "A script sees the system's own files and a directory of its own, and nothing else of the machine.",
    "network": "A script reaches what the policy allows, and nothing else.",
    "privilege": "A script runs as a user without rights, and cannot gain any.",
    "resources": "A script is held to its memory, processes, files and time.",
    "syscalls": "A script can make only the system calls that the policy allows.",
}


@dataclass(frozen=True, slots=True)
class State:
    """How a satellite is, as a word, and since when."""

    word: str
    kind: str


@dataclass(frozen=True, slots=True)
class LayerInWords:
    """A layer of the sandbox on one satellite: what it does, whether it holds there, and why not."""

    name: str
    does: str
    state: State
    reasons: Sequence[str]


def state_of(satellite: Satellite) -> State:
    """Whether it is there."""
    return State(*STATES.get(satellite.status, (satellite.status, "off")))


def enforces(satellite: Satellite) -> State:
    """What it can enforce, in a word."""
    lacking = lacks(satellite)
    if lacking:
        return State(f"not {', '.join(lacking)}", "bad")
    if not satellite.enforced:
        return State("not known yet", "off")
    off = [layer for layer, held in sorted(satellite.enforced.items()) if not held]
    return State(f"all but {', '.join(off)}", "warn") if off else State("everything", "good")


def lacks(satellite: Satellite) -> list[str]:
    """The layers that the policy asks for and that it cannot enforce."""
    return list(dict.fromkeys(str(one.get("layer")) for one in satellite.downgrades))


def policy(satellite: Satellite, revision: int) -> State:
    """Which revision of the policy it goes by, beside the current one."""
    applied = satellite.applied_revision
    if applied is None:
        return State("none yet", "off")
    if satellite.applied_unknown:
        return State(f"{applied}, which this host does not have", "bad")
    if applied >= revision:
        return State(f"{applied}", "good")
    behind = revision - applied
    return State(f"{applied} ({behind} behind)", "warn")


def layers(satellite: Satellite) -> list[LayerInWords]:
    """Each layer, with what it does there."""
    reasons: dict[str, list[str]] = {}
    for one in satellite.downgrades:
        reasons.setdefault(str(one.get("layer")), []).append(str(one.get("reason")))
    names = [*LAYERS, *(name for name in (*satellite.enforced, *reasons) if name not in LAYERS)]
    return [
        LayerInWords(name, LAYERS.get(name, ""), _layer(satellite, name, reasons), reasons.get(name, ()))
        for name in dict.fromkeys(names)
    ]


def remedies(capabilities: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """What somebody can do on the machine about what it lacks, by what it has told."""
    if capabilities is None:
        return []
    told = advice(from_wire(capabilities))
    return [{"what": one.primitive, "reason": one.reason, "remedy": one.remedy} for one in told]


def machine(capabilities: Mapping[str, Any] | None) -> str | None:
    """The machine's system, in a line."""
    if capabilities is None:
        return None
    told = from_wire(capabilities)
    return f"{told.system}/{told.machine} {told.kernel}".strip()


def _layer(satellite: Satellite, name: str, reasons: Mapping[str, Sequence[str]]) -> State:
    if name in reasons:
        return State("cannot be enforced", "bad")
    held = satellite.enforced.get(name)
    if held is None:
        return State("not known yet", "off")
    return State("enforced", "good") if held else State("not enforced", "warn")


def event(hook: str, payload: Mapping[str, Any]) -> str:
    """What an event of a satellite tells, in a few words."""
    match hook:
        case "satellite-connected":
            return f"version {payload.get('version') or 'unknown'}"
        case "satellite-disconnected":
            return str(
                payload.get("reason")
                or ("its agent was stopped" if payload.get("clean") else "connection lost")
            )
        case "satellite-policy-applied":
            lacking = payload.get("lacking") or ()
            return f"revision {payload.get('revision')}" + (
                f"; cannot enforce {', '.join(map(str, lacking))}" if lacking else ""
            )
        case "satellite-heartbeat-lost":
            return f"no heartbeat for {float(payload.get('offlineAfterSeconds') or 0):g} s"
        case "satellite-run-requested":
            return str(payload.get("kind") or "")
        case "satellite-run-finished":
            return str(payload.get("outcome") or "")
    return ""
