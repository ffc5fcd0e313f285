"""What a change of the policy would do, as commands ask the host for it, show it, and ask whether to go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ringfence.cli import ApiError, HostClient, output

from ringfence_script_packages.addresses import POLICY

MOST_SHOWN = 5
"""How many of a kind are named where the change itself is what the user is after."""
_OLDER = "this host is of an older release, and cannot say what a change would do"
_WORSE = {
    "refused": "its runs would be refused",
    "degraded": "its runs would have less than the policy asks for",
    "cut-off": "it would not reach what it has used",
}
_FATES = {"run": "as the policy asks", "degraded": "degraded", "cut-off": "cut off"}


def foresee(host: HostClient, change: Mapping[str, Any], *, expected: int) -> dict[str, Any]:
    """What a change would do to the policy at this revision. Raises `ApiError` for what could not be written."""
    try:
        answer: dict[str, Any] = host.request(
            "POST", f"{POLICY}/preview", body=dict(change), headers={"if-match": f'"{expected}"'}
        )
    except ApiError as error:
        # A revision that is not there is not found either.
        if error.status not in {404, 405} or "revision" in str(error.problem.get("detail")):
            raise
        return {"changed": True, "looser": [], "breaks": 0, "prospects": [], "unforeseen": [_OLDER]}
    return answer


def is_questionable(foreseen: Mapping[str, Any]) -> bool:
    """Whether somebody should be asked first: it gets looser, something would break, or nobody can say."""
    return bool(foreseen["changed"] and (foreseen["looser"] or foreseen["breaks"] or foreseen["unforeseen"]))


def warn(foreseen: Mapping[str, Any]) -> None:
    """The short form, on standard error: what gets looser, and who would be worse off."""
    for text in (*_looser(foreseen), *_broken(foreseen), *_unforeseen(foreseen)):
        output.note(text, style=None if text.startswith(" ") else output.WARN)


def show(foreseen: Mapping[str, Any]) -> None:
    """All of it, as the result of the command, but for what changes."""
    for text in _looser(foreseen):
        output.say(text)
    for of_kind in foreseen["prospects"]:
        fates = ", ".join(
            f"{count} {_FATES.get(fate, output.line(fate))}" for fate, count in of_kind["fates"].items()
        )
        output.say(f"{output.line(of_kind['kind'])}: {of_kind['total']} ({fates or 'none'})")
        for one in of_kind["named"]:
            mark = "would be worse off" if one["breaks"] else "no better without the change"
            style = output.BAD if one["breaks"] else output.DIM
            output.say(f"  {output.line(one['name'])}: {output.line(one['fate'])}, {mark}", style=style)
            for reason in one["reasons"]:
                output.say(f"    {output.line(reason)}")
        named = len(of_kind["named"])
        if (more := of_kind["total"] - of_kind["fates"].get("run", 0) - named) > 0:
            output.say(f"  … and {more} more.")
    for text in _unforeseen(foreseen):
        output.say(text, style=output.WARN)
    for note in foreseen.get("notes", ()):
        output.say(f"Note: {output.line(note)}.")


def _looser(foreseen: Mapping[str, Any]) -> Iterator[str]:
    if foreseen["looser"]:
        yield "It makes the policy looser:"
        yield from (f"  {output.line(text)}" for text in foreseen["looser"])


def _broken(foreseen: Mapping[str, Any]) -> Iterator[str]:
    for of_kind in foreseen["prospects"]:
        if not of_kind["breaks"]:
            continue
        total = of_kind["total"]
        kind = f"{output.line(of_kind['kind'])}{'' if total == 1 else 's'}"
        yield f"{of_kind['breaks']} of {total} {kind} would be worse off:"
        broken = [one for one in of_kind["named"] if one["breaks"]]
        for one in broken[:MOST_SHOWN]:
            why = f": {output.line(one['reasons'][0])}" if one["reasons"] else ""
            what = _WORSE.get(one["fate"], output.line(one["fate"]))
            yield f"  {output.line(one['name'])}: {what}{why}"
        if (more := of_kind["breaks"] - min(len(broken), MOST_SHOWN)) > 0:
            yield f"  … and {more} more; --dry-run shows them."


def _unforeseen(foreseen: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"Not known: {output.line(text)}." for text in foreseen["unforeseen"])
