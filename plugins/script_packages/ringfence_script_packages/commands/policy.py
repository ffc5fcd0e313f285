"""`ringfence policy`: read, foresee, change, compare and restore the one policy."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from ringfence.cli import (
    FAILURE,
    AsJson,
    CliError,
    HostClient,
    UsageMistake,
    Yes,
    agrees,
    can_ask,
    output,
)

from ringfence_script_packages.addresses import POLICY
from ringfence_script_packages.commands.changes import parse_changes
from ringfence_script_packages.commands.editing import Draft
from ringfence_script_packages.commands.making import Change, How, make, say_unchanged, value_text

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
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show what the change would do, on every satellite too.")
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
def set_(
    changes: Changes,
    reason: Reason = None,
    expect: Expect = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make the policy the shipped default plus CHANGE; all that is not named goes back to the default.

    Asks first if that makes the policy looser, or something would break.
    """
    change = Change.replacing(parse_changes(changes, sys.stdin.buffer))
    with HostClient.connect() as host:
        make(host, change, How(reason, expect, dry_run, yes, as_json))


@app.command()
def patch(
    changes: Changes,
    reason: Reason = None,
    expect: Expect = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Put CHANGE over the current policy; all that is not named stays as it is.

    Asks first if that makes the policy looser, or something would break.
    """
    change = Change.over(parse_changes(changes, sys.stdin.buffer))
    with HostClient.connect() as host:
        make(host, change, How(reason, expect, dry_run, yes, as_json))


@app.command()
def revert(
    revision: Annotated[
        int, typer.Argument(min=0, help="The revision to restore; 0 is the shipped default.")
    ],
    reason: Reason = None,
    expect: Expect = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Restore a past revision, as a new one.

    Asks first if that makes the policy looser, or something would break.
    """
    with HostClient.connect() as host:
        make(host, Change.back_to(revision), How(reason, expect, dry_run, yes, as_json))


@app.command()
def edit(reason: Reason = None, yes: Yes = False, as_json: AsJson = False) -> None:
    """Change the policy in your editor, as JSON (VISUAL, EDITOR, or vi); what is left out goes back to the default.

    Asks first if that makes the policy looser, or something would break.
    """
    with HostClient.connect() as host:
        state = host.request("GET", POLICY)
        with Draft(state["policy"]) as draft:
            while True:
                draft.edit()
                if not draft.is_edited:
                    say_unchanged(state, as_json)
                    return
                try:
                    change = Change.replacing(draft.read())
                    make(host, change, How(reason, state["revision"], False, yes, as_json))
                    return
                except UsageMistake as mistake:
                    if as_json or not can_ask():
                        raise
                    output.show_error(mistake)
                    if not agrees("Edit it again?"):
                        raise CliError("nothing was done") from mistake


@app.command()
def diff(
    revision: Annotated[
        int | None,
        typer.Option(min=0, help="The revision to compare with; by default the one before the current one."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what restoring a past revision would change, and what that would do; nothing is changed."""
    with HostClient.connect() as host:
        current = host.request("GET", POLICY)["revision"]
        wanted = max(0, current - 1) if revision is None else revision
        make(host, Change.back_to(wanted), How(expect=current, dry_run=True, as_json=as_json))


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


def _change_text(change: object) -> str:
    if isinstance(change, dict):
        path = str(change.get("path"))
        before, after = (value_text(path, change.get(side)) for side in ("before", "after"))
        return f"{path}: {before} → {after}"
    return str(change)
