"""How a command changes the policy: it is foreseen, somebody is asked if that is called for, and then it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ringfence.cli import ApiError, CliError, HostClient, UsageMistake, confirm, output

from ringfence_script_packages.addresses import POLICY
from ringfence_script_packages.commands import foretelling
from ringfence_script_packages.commands.changes import Difference, differences
from ringfence_script_packages.sizes import spell_size


@dataclass(frozen=True, slots=True)
class Change:
    """A change as it is asked for, and as it is asked what it would do."""

    method: str
    path: str
    body: Mapping[str, Any]
    proposed: Mapping[str, Any]

    @classmethod
    def over(cls, policy: Mapping[str, Any]) -> Change:
        """These settings over the current policy."""
        return cls("PATCH", POLICY, {"policy": policy}, {"policy": policy})

    @classmethod
    def replacing(cls, policy: Mapping[str, Any]) -> Change:
        """This policy over the shipped default."""
        return cls("PUT", POLICY, {"policy": policy}, {"policy": policy, "replace": True})

    @classmethod
    def back_to(cls, revision: int) -> Change:
        """The policy of an earlier revision."""
        body = {"revision": revision}
        return cls("POST", f"{POLICY}/revert", body, body)


@dataclass(frozen=True, slots=True)
class How:
    """What the user has said of how to make a change."""

    reason: str | None = None
    expect: int | None = None
    dry_run: bool = False
    yes: bool = False
    as_json: bool = False


def make(host: HostClient, change: Change, how: How) -> None:
    """Make a change, unless it is only to be shown, or whoever is asked does not want it."""
    before = host.request("GET", POLICY)
    expected = before["revision"] if how.expect is None else how.expect
    reason = {} if how.reason is None else {"reason": how.reason}
    try:
        foreseen = foretelling.foresee(host, change.proposed, expected=expected)
        if how.dry_run:
            _show_foreseen(before, foreseen, how.as_json)
            return
        if foretelling.is_questionable(foreseen):
            if not how.yes:
                foretelling.warn(foreseen)
                output.note(f"To go back afterwards: ringfence policy revert {expected}")
            confirm("Make this change?", yes=how.yes)
        after = host.request(
            change.method,
            change.path,
            body={**change.body, **reason},
            headers={"if-match": f'"{expected}"'},
        )
    except ApiError as error:
        raise _explained(error, host, expected) from error
    if after["revision"] == before["revision"]:
        say_unchanged(after, how.as_json)
        return
    if how.as_json:
        output.print_json(after)
        return
    output.say(
        f"The policy is now at revision {after['revision']} (was {before['revision']}).", style=output.STRONG
    )
    _show_differences(differences(before["policy"], after["policy"]))
    for note in after.get("notes", ()):
        output.say(f"Note: {output.line(note)}.")


def say_unchanged(state: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json(state)
    else:
        output.say(f"Nothing changed: the policy stays at revision {state['revision']}.")


def _show_foreseen(before: Mapping[str, Any], foreseen: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json(foreseen)
        return
    if not foreseen["changed"]:
        output.say(f"It would change nothing: the policy is at revision {before['revision']}.")
        return
    output.say(f"It would change revision {before['revision']}:", style=output.STRONG)
    _show_differences(differences(before["policy"], foreseen.get("policy", before["policy"])))
    foretelling.show(foreseen)


def _explained(error: ApiError, host: HostClient, expected: int) -> CliError:
    """The same failure with what the user needs in order to go on."""
    if error.status == 412:
        current = error.problem.get("current")
        if not isinstance(current, dict) or "revision" not in current:
            current = host.request("GET", POLICY)
        return CliError(
            f"the policy is at revision {current['revision']}, not {expected}: somebody else has changed it",
            hint=f"Now current ({output.line(current.get('updatedBy') or 'nobody')}, "
            f"{output.when(current.get('updatedAt'))}):\n{json.dumps(current.get('policy'), indent=2)}\n"
            f"Check it, then run the command again (or with --expect {current['revision']}).",
            problem={**error.problem, "current": current},
        )
    if error.status in {400, 422}:
        problems = error.problem.get("problems")
        if isinstance(problems, list) and problems:
            listed = "\n".join(f"  {problem}" for problem in problems)
            return UsageMistake(str(error.problem.get("title")), hint=listed, problem=error.problem)
        return UsageMistake(error.message, problem=error.problem)
    return error


def value_text(path: str, value: object) -> str:
    """A policy's value for people: sizes in binary units, lists by commas."""
    if isinstance(value, int) and not isinstance(value, bool) and path.endswith("Bytes"):
        return spell_size(value)
    if isinstance(value, list):
        return output.line(", ".join(str(item) for item in value)) or "(none)"
    if value is None:
        return "(unset)"
    return output.line(value if isinstance(value, str) else json.dumps(value))


def _show_differences(changed: list[Difference]) -> None:
    for path, before, after in changed:
        output.say(f"  - {output.line(path)} = {value_text(path, before)}", style=output.BAD)
        output.say(f"  + {output.line(path)} = {value_text(path, after)}", style=output.GOOD)
