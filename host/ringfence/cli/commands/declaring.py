"""`ringfence apply`, `diff`, `export` and `schema`: what a host is to be like, in files."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from ringfence.cli import output
from ringfence.cli.client import ApiError, HostClient
from ringfence.cli.completing import names_from
from ringfence.cli.confirming import Yes, confirm
from ringfence.cli.given.declarations import Given
from ringfence.cli.options import AsJson
from ringfence.process.errors import FAILURE, CliError

APPLY, EXPORT, SCHEMAS = "/api/host/apply", "/api/host/export", "/api/host/schemas"
SECONDS = 120.0
MOST_SHOWN = 50
"""How many differences of one object are shown."""
_MARKS = {"created": "+", "changed": "~", "deleted": "-", "unchanged": "="}
_STYLES = {"created": output.GOOD, "changed": output.WARN, "deleted": output.BAD, "unchanged": output.DIM}

KINDS = names_from(SCHEMAS, "kinds", "kind", all_at_once=True)

From = Annotated[
    str,
    typer.Option(
        "--file",
        "-f",
        metavar="DIR|FILE|-",
        help="A directory with documents in YAML or JSON, one file, or - for standard input.",
    ),
]
Source = Annotated[
    str, typer.Option(help="Whose objects these are: no other source changes them, and --prune goes by it.")
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Remove what this source has applied before and no document has now.")
]


def apply(
    file: From,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    prune: Prune = False,
    source: Source = "cli",
    reason: Annotated[
        str | None, typer.Option(help="Reason for the change; it is recorded with each event.")
    ] = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Change also what belongs to another source, and own it.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Have all documents hold; if something is wrong with one of them, nothing is changed."""
    given = Given(file, sys.stdin.buffer)
    body = {"source": source, "prune": prune, "takeOver": take_over}
    if reason is not None:
        body["reason"] = reason
    with HostClient.connect() as host:
        if prune and not dry_run and not yes:
            foreseen = _asked(host, given, {**body, "dryRun": True})
            gone = [
                f"{one['kind']} {one['name']}" for one in foreseen["objects"] if one["change"] == "deleted"
            ]
            if gone:
                confirm(f"Remove {', '.join(gone)}?", yes=False)
        answer = _asked(host, given, {**body, "dryRun": dry_run})
    if as_json:
        output.print_json(answer)
    else:
        _show(answer)


def diff(
    file: From,
    prune: Prune = False,
    source: Source = "cli",
    take_over: Annotated[bool, typer.Option("--take-over", help="As if that was given to apply.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what `apply` would change. Exit status 1: something; 0: nothing."""
    given = Given(file, sys.stdin.buffer)
    with HostClient.connect() as host:
        answer = _asked(
            host, given, {"source": source, "prune": prune, "takeOver": take_over, "dryRun": True}
        )
    if as_json:
        output.print_json(answer)
    else:
        _show(answer)
    if any(one["change"] != "unchanged" for one in answer["objects"]):
        raise typer.Exit(FAILURE)


def export(
    kinds: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KIND]...", help="Only these kinds.", autocompletion=KINDS, show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print what there is as documents that `apply` takes, without secrets and addresses."""
    with HostClient.connect() as host:
        answer = host.request("GET", EXPORT, params={"kind": kinds or []}, timeout=SECONDS)
    if as_json:
        output.print_json({"documents": answer["documents"]})
    else:
        sys.stdout.write(output.plain(answer["text"]))


def schema(
    kind: Annotated[
        str | None,
        typer.Argument(help="The kind, such as Check.", autocompletion=KINDS, show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the JSON Schema of a kind of documents, for editors; without a kind, which kinds there are."""
    with HostClient.connect() as host:
        if kind is not None:
            output.print_json(host.request("GET", f"{SCHEMAS}/{quote(kind, safe='')}"))
            return
        answer = host.request("GET", SCHEMAS)
    if as_json:
        output.print_json(answer)
        return
    output.show_table(
        ("kind", "what it is"),
        [(output.line(one["kind"]), output.line(one["what"])) for one in answer["kinds"]],
    )


def _asked(host: HostClient, given: Given, body: Mapping[str, Any]) -> dict[str, Any]:
    """The host's answer; files that documents refer to are sent along once it has said which."""
    try:
        return _sent(host, given, body)
    except ApiError as error:
        if not (needs := error.problem.get("needs")):
            raise _told(error) from error
        given.add([str(one) for one in needs])
    try:
        return _sent(host, given, body)
    except ApiError as error:
        raise _told(error) from error


def _sent(host: HostClient, given: Given, body: Mapping[str, Any]) -> dict[str, Any]:
    whole = {**body, "files": given.to_wire()}
    answer: dict[str, Any] = host.request("POST", APPLY, body=whole, timeout=SECONDS)
    return answer


def _told(error: ApiError) -> CliError:
    """All that is wrong, one in a line: `checks/web.yaml:7:3: …`."""
    if not error.problem.get("errors"):
        return error
    title, detail = error.problem.get("title"), error.problem.get("detail")
    return CliError(f"{title}; nothing was changed\n{detail}")


def _show(answer: Mapping[str, Any]) -> None:
    for one in answer["objects"]:
        change = one["change"]
        what = f"{_MARKS[change]} {output.line(one['kind'])} {output.line(one['name'])}: {change}"
        output.say(what, style=_STYLES[change])
        for difference in one["differences"][:MOST_SHOWN]:
            output.say(f"    {output.line(difference)}")
        if len(one["differences"]) > MOST_SHOWN:
            output.say(f"    … and {len(one['differences']) - MOST_SHOWN} more", style=output.DIM)
        for warning in one["warnings"]:
            output.note(f"    {output.line(warning)}", style=output.WARN)
    for one in answer["undeclared"]:
        what = f"{output.line(one['kind'])} {output.line(one['name'])} is in no document any more"
        output.note(f"{what}: --prune removes it", style=output.WARN)
    changes = [one["change"] for one in answer["objects"] if one["change"] != "unchanged"]
    if answer["dryRun"]:
        output.note(f"Nothing was changed; {len(changes)} of {len(answer['objects'])} objects would be.")
