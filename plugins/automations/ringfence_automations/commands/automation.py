"""`ringfence automation`: have definitions hold, and look at those that do."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from ringfence.cli import ApiError, AsJson, CliError, HostClient, UsageMistake, Yes, confirm, lists, output
from ringfence.documents.differing import differences

from ringfence_automations.commands.api import API, AUTOMATIONS, Name, Why, ask, why

STDIN = "-"
LARGEST_FILE = 4 * 1024 * 1024
MOST_SHOWN = 30
"""How many differences of one automation are shown."""

app = typer.Typer(help="Say what is to be done when something happens.", no_args_is_help=True)

Files = Annotated[
    list[str] | None,
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="YAML or JSON, several documents if you like; - is standard input.",
    ),
]
PlainFiles = Annotated[
    list[str] | None, typer.Argument(metavar="[FILE]...", help="The same, without -f.", show_default=False)
]
CancelRuns = Annotated[
    bool,
    typer.Option(
        "--cancel-runs", help="Cancel its runs that have not ended. That needs automations.automation.run."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]


@app.command()
def apply(
    plain: PlainFiles = None,
    file: Files = None,
    reason: Why = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Have the definitions in a file hold. If something is wrong with one of a file, none of it is taken."""
    sources = [*(file or ()), *(plain or ())]
    if not sources:
        raise UsageMistake("name a file with definitions, or - for standard input: automation apply FILE")
    texts = [(source, _read(source)) for source in sources]
    applied: list[dict[str, Any]] = []
    with HostClient.connect() as host:
        for source, text in texts:
            body = {"text": text, "dryRun": dry_run, **why(reason)}
            try:
                applied += host.request("POST", f"{API}/apply", body=body)["automations"]
            except ApiError as error:
                raise _with_places(source, error) from error
    if as_json:
        output.print_json({"automations": applied, "dryRun": dry_run})
        return
    for one in applied:
        _say_applied(one, dry_run)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the automations."""
    with HostClient.connect() as host:
        found = list(lists.every(host, AUTOMATIONS, "automations"))
    if as_json:
        output.print_json({"automations": found})
        return
    if not found:
        output.say("There is no automation yet: `ringfence automation apply FILE`.")
        return
    output.show_table(
        ("name", "enabled", "starts", "revision", "acts for", "changed"),
        (
            (
                output.line(one["name"]),
                "yes" if one["enabled"] else "paused" if one.get("paused") else "no",
                output.line(", ".join(map(_trigger, one["triggers"])) or "by hand"),
                str(one["revision"]),
                output.line(one["actsFor"]),
                output.ago(one["changedAt"]),
            )
            for one in found
        ),
        spare=("acts for", "changed"),
    )


@app.command()
def show(
    name: Name,
    revision: Annotated[int | None, typer.Option(min=1, help="Show this past revision.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show an automation: its definition as JSON, which `apply` takes too."""
    with HostClient.connect() as host:
        if revision is None:
            shown = ask(host, "GET", name)
        else:
            page = ask(host, "GET", name, "revisions", params={"after": str(revision + 1), "limit": 1})
            found = [one for one in page["revisions"] if one["revision"] == revision]
            if not found:
                raise CliError(f"{name} has no revision {revision}")
            shown = {"name": name, **found[0]}
    if as_json:
        output.print_json(shown)
        return
    output.show_facts(
        (
            ("name", output.line(shown["name"])),
            ("revision", str(shown["revision"])),
            ("enabled", "yes" if shown["definition"].get("enabled", True) else "no"),
            ("acts for", output.line(shown["actsFor"])),
            ("changed", f"{output.when(shown['changedAt'])} by {output.line(shown['changedBy'] or '–')}"),
        )
    )
    output.say(output.plain(json.dumps(shown["definition"], indent=2, ensure_ascii=False)))


@app.command()
def history(
    name: Name,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many revisions.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the revisions of an automation, newest first; also of one that is deleted."""
    with HostClient.connect() as host:
        # One more, to tell what the last one has changed.
        answer = ask(host, "GET", name, "revisions", params={"limit": min(limit + 1, 500)})
    revisions = answer["revisions"]
    if as_json:
        output.print_json({"revisions": revisions[:limit]})
        return
    before = [*revisions[1:], None]
    output.show_table(
        ("revision", "when", "who", "what changed", "why"),
        (
            (
                str(one["revision"]),
                output.ago(one["changedAt"]),
                output.line(one["changedBy"] or "–"),
                "\n".join(map(output.line, _changes(earlier, one))) or "–",
                output.line(one["reason"] or ""),
            )
            for one, earlier in list(zip(revisions, before, strict=True))[:limit]
        ),
    )


@app.command()
def delete(
    name: Name,
    reason: Why = None,
    cancel_runs: CancelRuns = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete an automation. Its runs that are under way go on to their end, unless --cancel-runs is given."""
    with HostClient.connect() as host:
        ask(host, "GET", name)
        confirm(f"Delete the automation {name}?", yes=yes)
        ask(host, "DELETE", name, params=_ending(reason, cancel_runs))
    if as_json:
        output.print_json({"deleted": name})
    else:
        output.say(f"{output.line(name)} is deleted.")


@app.command()
def enable(name: Name, reason: Why = None, as_json: AsJson = False) -> None:
    """Let an automation be started again."""
    _switch(name, "enable", why(reason), as_json)


@app.command()
def disable(name: Name, reason: Why = None, cancel_runs: CancelRuns = False, as_json: AsJson = False) -> None:
    """Have an automation started by nothing. Its runs go on to their end, unless --cancel-runs is given."""
    _switch(name, "disable", _ending(reason, cancel_runs), as_json)


def _ending(reason: str | None, cancel_runs: bool) -> dict[str, str]:
    return {**why(reason), **({"cancelRuns": "true"} if cancel_runs else {})}


def _switch(name: str, how: str, params: Mapping[str, str], as_json: bool) -> None:
    with HostClient.connect() as host:
        switched = ask(host, "POST", name, how, params=params)
    if as_json:
        output.print_json(switched)
        return
    already = " already" if switched["change"] == "unchanged" else ""
    output.say(f"{output.line(name)} is {how}d{already}.")


def _read(source: str) -> str:
    try:
        if source == STDIN:
            data = sys.stdin.buffer.read(LARGEST_FILE + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        why_not = error.strerror if isinstance(error, OSError) else error
        raise UsageMistake(f"cannot read {source}: {why_not}") from error
    if len(data) > LARGEST_FILE:
        raise UsageMistake(
            f"{source} is larger than {LARGEST_FILE} bytes, which is too large for definitions"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageMistake(f"{source} is no text in UTF-8") from error


def _with_places(source: str, error: ApiError) -> CliError:
    """The same error, with the places in the file."""
    findings = error.problem.get("errors")
    if not isinstance(findings, list) or not findings:
        return error
    lines = [f"{source}:{_finding(one)}" for one in findings]
    title = str(error.problem.get("title", "The definition is not valid"))
    return CliError("\n".join([f"{title}:", *lines]), problem=error.problem)


def _finding(one: Mapping[str, Any]) -> str:
    at = f"{one['path']}: " if one["path"] else ""
    return f"{one['line']}:{one['column']}: {at}{one['message']}"


def _say_applied(one: Mapping[str, Any], dry_run: bool) -> None:
    name, change = output.line(one["name"]), one["change"]
    if change == "unchanged":
        output.say(f"{name} is unchanged, at revision {one['revision']}.")
    else:
        verb = f"would be {change}" if dry_run else f"is {change}"
        output.say(f"{name} {verb}, at revision {one['revision']}.")
    found = [] if one["before"] is None else list(differences(one["before"], one["definition"]))
    for difference in found[:MOST_SHOWN]:
        output.say(f"  {output.line(str(difference))}")
    if found[MOST_SHOWN:]:
        output.say(f"  … and {len(found) - MOST_SHOWN} more")
    for warning in one["warnings"]:
        output.note(f"warning: {output.line(_finding(warning))}", style=output.WARN)


def _changes(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[str]:
    if before is None or after["change"] != "updated":
        return [str(after["change"])]
    found = [str(one) for one in differences(before["definition"], after["definition"])]
    if before["actsFor"] != after["actsFor"] or not found:
        found.append(f"acts for {after['actsFor']}")
    return found[:MOST_SHOWN]


def _trigger(trigger: Mapping[str, Any]) -> str:
    if "hook" in trigger:
        return str(trigger["hook"])
    if "every" in trigger:
        return f"every {trigger['every']}"
    if "cron" in trigger:
        return f"at {trigger['cron']}"
    return "webhook" if "webhook" in trigger else "by hand"
