"""`ringfence policy`: read, change, compare and restore the one policy."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from ringfence.cli import FAILURE, ApiError, AsJson, CliError, HostClient, UsageMistake, output

from ringfence_script_packages.client import POLICY
from ringfence_script_packages.commands.changes import Difference, differences, parse_changes

MOST_REVISIONS = 1000
"""As many as the host lists at once."""

app = typer.Typer(help="Read and change the sandbox policy of a running host.", no_args_is_help=True)

Reason = Annotated[str | None, typer.Option(help="Reason for the change; the history keeps it.")]
Expect = Annotated[
    int | None,
    typer.Option(
        min=0,
        help=(
            "Change the policy only if it is at this revision; by default the one that "
            "is current when the command starts."
        ),
    ),
]
Changes = Annotated[
    list[str],
    typer.Argument(
        metavar="CHANGE...",
        help="PATH=VALUE (network.mode=deny, resources.memoryBytes=256MiB, "
        "network.allow=10.0.0.5:443,10.1.0.0/16), "
        "a JSON object, a JSON file, or - for standard input.",
    ),
]


@app.command()
def show(
    revision: Annotated[
        int | None, typer.Option(min=1, help="Show this past revision instead of the current one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the policy that holds now, or a past revision of it."""
    with HostClient.connect() as host:
        path = POLICY if revision is None else f"{POLICY}/history/{revision}"
        state = host.request("GET", path)
    if as_json:
        output.print_json(state)
    else:
        _show_state(state)


@app.command("set")
def set_(changes: Changes, reason: Reason = None, expect: Expect = None, as_json: AsJson = False) -> None:
    """Make the policy the shipped default plus CHANGE; all that is not named goes back to the default."""
    _write("PUT", changes, reason, expect, as_json)


@app.command()
def patch(changes: Changes, reason: Reason = None, expect: Expect = None, as_json: AsJson = False) -> None:
    """Put CHANGE over the current policy; all that is not named stays as it is."""
    _write("PATCH", changes, reason, expect, as_json)


@app.command()
def revert(
    revision: Annotated[
        int, typer.Argument(min=0, help="The revision to restore; 0 is the shipped default.")
    ],
    reason: Reason = None,
    expect: Expect = None,
    as_json: AsJson = False,
) -> None:
    """Restore a past revision, as a new one."""
    with HostClient.connect() as host:
        _change(host, "POST", f"{POLICY}/revert", {"revision": revision}, reason, expect, as_json)


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, max=MOST_REVISIONS, help="How many revisions.")] = 20,
    before: Annotated[int | None, typer.Option(min=1, help="Show only revisions before this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the revisions, newest first: who changed what, when and why."""
    with HostClient.connect() as host:
        params = {"limit": limit} | ({} if before is None else {"before": before})
        answer = host.request("GET", f"{POLICY}/history", params=params)
    if as_json:
        output.print_json(answer)
        return
    revisions = answer["revisions"]
    if not revisions:
        output.say("The policy has never been changed: the shipped default holds.")
        return
    output.show_table(
        ("revision", "when", "who", "what changed", "why"),
        (
            (
                str(entry["revision"]),
                output.ago(entry.get("at")),
                output.line(entry.get("actor") or "–"),
                "\n".join(output.line(_change_text(change)) for change in entry.get("changes", ())) or "–",
                output.line(entry.get("reason") or ""),
            )
            for entry in revisions
        ),
    )


@app.command()
def verify(
    anchor: Annotated[
        str | None,
        typer.Option(
            metavar="REVISION:HASH", help="A head that was noted before; the history must still contain it."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that no revision was changed behind Ringfence's back; exits 1 and names the first that does not fit.

    Only a head that was noted outside of the database can tell whether revisions were taken from the end, or all of
    them written anew: keep what this prints, and give it back with --anchor.
    """
    with HostClient.connect() as host:
        params = {} if anchor is None else {"anchor": anchor}
        found = host.request("GET", f"{POLICY}/verify", params=params)
    problem, head = found["problem"], found["head"]
    if as_json:
        output.print_json(found)
    elif problem is not None:
        output.say(f"{output.line(problem['where'])} {output.line(problem['what'])}.", style=output.BAD)
    elif head is None:
        output.say("The policy has never been changed: there is nothing to verify.")
    else:
        output.say(f"All {head['revision']} revisions are as they were written.", style=output.GOOD)
        output.say(f"{head['revision']}:{output.line(head['hash'])}")
    if problem is not None:
        raise typer.Exit(FAILURE)


def _write(method: str, words: list[str], reason: str | None, expect: int | None, as_json: bool) -> None:
    partial = parse_changes(words, sys.stdin.buffer)
    with HostClient.connect() as host:
        _change(host, method, POLICY, {"policy": partial}, reason, expect, as_json)


def _change(
    host: HostClient,
    method: str,
    path: str,
    body: dict[str, Any],
    reason: str | None,
    expect: int | None,
    as_json: bool,
) -> None:
    before = host.request("GET", POLICY)
    expected = before["revision"] if expect is None else expect
    if reason is not None:
        body["reason"] = reason
    try:
        after = host.request(method, path, body=body, headers={"if-match": f'"{expected}"'})
    except ApiError as error:
        raise _explained(error, host, expected) from error
    if as_json:
        output.print_json(after)
        return
    changed = differences(before["policy"], after["policy"])
    if after["revision"] == before["revision"]:
        output.say(f"Nothing changed: the policy stays at revision {after['revision']}.")
        return
    output.say(
        f"The policy is now at revision {after['revision']} (was {before['revision']}).", style=output.STRONG
    )
    _show_differences(changed)
    for note in after.get("notes", ()):
        output.say(f"Note: {output.line(note)}.")


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


def _show_state(state: Mapping[str, Any]) -> None:
    actor = state.get("updatedBy") or state.get("actor")
    at = state.get("updatedAt") or state.get("at")
    if state["revision"] == 0:
        output.say("Revision 0: the shipped default, never changed.", style=output.STRONG)
    else:
        output.say(
            f"Revision {state['revision']}, by {output.line(actor or 'nobody')}, {output.when(at)}",
            style=output.STRONG,
        )
    output.show_facts(_facts(state["policy"]))


def _facts(policy: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    for name, value in policy.items():
        if isinstance(value, Mapping):
            facts.extend(_facts(value, f"{prefix}{name}."))
        else:
            facts.append((output.line(prefix + name), value_text(prefix + name, value)))
    return facts


def value_text(path: str, value: object) -> str:
    """A policy's value for people: sizes in binary units, lists by commas."""
    if isinstance(value, int) and not isinstance(value, bool) and path.endswith("Bytes"):
        for unit, size in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
            if value and value % size == 0:
                return f"{value // size} {unit}"
        return f"{value} bytes"
    if isinstance(value, list):
        return output.line(", ".join(str(item) for item in value)) or "(none)"
    if value is None:
        return "(unset)"
    return output.line(value if isinstance(value, str) else json.dumps(value))


def _change_text(change: object) -> str:
    if isinstance(change, dict):
        path = str(change.get("path"))
        before, after = (value_text(path, change.get(side)) for side in ("before", "after"))
        return f"{path}: {before} → {after}"
    return str(change)


def _show_differences(changed: list[Difference]) -> None:
    for path, before, after in changed:
        output.say(f"  - {output.line(path)} = {value_text(path, before)}", style=output.BAD)
        output.say(f"  + {output.line(path)} = {value_text(path, after)}", style=output.GOOD)
