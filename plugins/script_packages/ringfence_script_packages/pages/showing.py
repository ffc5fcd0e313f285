"""What templates are handed of a change: its differences as lines, and what it would do, in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ringfence.sandbox.policy import SandboxPolicy

from ringfence_script_packages.pages.entered import settings
from ringfence_script_packages.previewing import Preview, without_effect
from ringfence_script_packages.service import Fate, Prospects

MOST_NAMED = 20
MOST_LOOSER = 50
_FATES = {
    Fate.RUN: "run as the policy asks",
    Fate.DEGRADED: "run with less than the policy asks for",
    Fate.CUT_OFF: "would not reach what they have used",
    Fate.REFUSED: "would be refused",
    Fate.UNKNOWN: "not known",
}


def digest(preview: Preview) -> str:
    """What somebody has seen of a change when they agree to it: the revision it is put over, and the whole policy."""
    seen = json.dumps([preview.current.revision, preview.after.to_wire()], sort_keys=True)
    return hashlib.sha256(seen.encode()).hexdigest()


def lines(changes: Sequence[tuple[str, object, object]]) -> tuple[str, str]:
    """Changed settings before and after, a line for each value, and for each entry of a list that is not in both."""
    old: list[str] = []
    new: list[str] = []
    for path, before, after in changes:
        if isinstance(before, list | tuple) or isinstance(after, list | tuple):
            had, has = _entries(before), _entries(after)
            old += [f"{path}: {one}" for one in had if one not in has]
            new += [f"{path}: {one}" for one in has if one not in had]
        else:
            old += [] if before is None else [f"{path} = {_value(path, before)}"]
            new += [] if after is None else [f"{path} = {_value(path, after)}"]
    return "\n".join(old), "\n".join(new)


def _entries(value: object) -> dict[str, None]:
    return dict.fromkeys(map(str, value)) if isinstance(value, list | tuple) else {}


def _value(path: str, value: object) -> str:
    known = settings().get(path)
    return json.dumps(value, ensure_ascii=False) if known is None else known.words(value)


def preview(found: Preview, form: Mapping[str, str]) -> dict[str, Any]:
    """A preview for the template, and whether who sent the form has agreed to just this."""
    old, new = lines(found.changes)
    seen = digest(found)
    return {
        "changed": found.changed,
        "revision": found.current.revision,
        "old": old,
        "new": new,
        "looser": found.looser[:MOST_LOOSER],
        "more_looser": max(0, len(found.looser) - MOST_LOOSER),
        "breaks": found.breaks,
        "prospects": [_prospects(each) for each in found.prospects],
        "unforeseen": found.unforeseen,
        "notes": without_effect(found.after),
        "asks": found.is_questionable,
        "digest": seen,
        "sure": form.get("sure") == "yes" and form.get("asked") == seen,
    }


def _prospects(of_kind: Prospects) -> dict[str, Any]:
    broken = sorted((one for one in of_kind.each if one.breaks), key=lambda one: one.name)
    return {
        "kind": of_kind.kind,
        "total": len(of_kind.each),
        "fates": list(_fates(of_kind)),
        "broken": [
            {"name": one.name, "fate": _FATES[one.fate], "reasons": one.reasons[:3]}
            for one in broken[:MOST_NAMED]
        ],
        "more": max(0, len(broken) - MOST_NAMED),
    }


def _fates(of_kind: Prospects) -> Iterator[str]:
    for fate, words in _FATES.items():
        if count := sum(one.fate is fate for one in of_kind.each):
            yield f"{count} {words}"


def policy_lines(policy: SandboxPolicy) -> str:
    """The whole policy as JSON for people."""
    return json.dumps(policy.spelled_out(), indent=2, ensure_ascii=False)
