"""`ringfence automation run|runs|logs|cancel`: start automations by hand, and see what becomes of runs."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.text import Text
from ringfence.cli import AsJson, CliError, HostClient, UsageMistake, lists, names_from, output

from ringfence_automations.commands.api import NAMES, Name, ask
from ringfence_automations.commands.following import (
    RUNS,
    Progress,
    follow,
    in_words,
    left,
    shown,
    style_of,
    tell_end,
    wait_for,
    written,
)

Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="NAME=VALUE", help="An input; what is no text is written as JSON."),
]
RunId = Annotated[
    str,
    typer.Argument(metavar="RUN", help="The run, by its id.", autocompletion=names_from(RUNS, "runs", "id")),
]
_WRITTEN = {"boolean": "true", "array": "[1, 2]", "object": '{"a": 1}'}
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Status(enum.StrEnum):
    """How far a run can have come."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


def run(
    name: Name,
    given: Inputs = None,
    once: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Start it once under this key, however often it is asked for."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the run's end.")] = False,
    following: Annotated[
        bool, typer.Option("--follow", help="Show what its steps do, until the run has ended.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start an automation by hand. With --wait or --follow, the exit status is 1 unless the run succeeds."""
    if following and as_json:
        raise UsageMistake("--follow shows progress, and --json one document: use --wait with --json")
    with HostClient.connect() as host:
        body: dict[str, Any] = {"inputs": inputs_of(host, name, given)}
        if once is not None:
            body["once"] = once
        started = ask(host, "POST", name, "runs", body=body)
        if following:
            output.note(f"run {output.line(started['id'])}")
            ended = follow(host, started["id"])
        elif wait:
            ended = wait_for(host, started["id"])
        else:
            ended = None
    if as_json:
        output.print_json(ended or started)
        if ended is not None and ended["status"] != Status.SUCCEEDED:
            raise typer.Exit(1)
    elif ended is None:
        output.say(f"{output.line(name)} is started: run {output.line(started['id'])}.")
    else:
        tell_end(ended)


def runs(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="Only those of this automation.",
            autocompletion=NAMES,
            show_default=False,
        ),
    ] = None,
    status: Annotated[
        Status | None, typer.Option(help="Only those in this status.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many of the newest.")] = 30,
    as_json: AsJson = False,
) -> None:
    """List runs of automations, the newest first."""
    params: dict[str, str | int] = {"limit": limit}
    if name is not None:
        params["automation"] = name
    if status is not None:
        params["status"] = status.value
    with HostClient.connect() as host:
        if name is not None:
            ask(host, "GET", name, "revisions", params={"limit": 1})
        found = host.request("GET", RUNS, params=params)
    if as_json:
        output.print_json(found)
        return
    if not found["runs"]:
        output.say("No run matches." if name or status else "No automation has been started yet.")
        return
    output.show_table(
        ("run", "automation", "status", "started by", "when", "message"),
        map(_row, found["runs"]),
        spare=("message",),
    )


def logs(
    which: Annotated[
        str,
        typer.Argument(
            metavar="NAME|RUN",
            help="A run; or an automation's newest that was not skipped.",
            autocompletion=NAMES,
        ),
    ],
    following: Annotated[bool, typer.Option("--follow", help="Go on until the run has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what became of the steps of a run, and what they wrote."""
    if following and as_json:
        raise UsageMistake("--follow shows progress, and --json one document: leave out one of them")
    with HostClient.connect() as host:
        id = which if _ID.fullmatch(which) else _newest(host, which)
        if following:
            tell_end(follow(host, id))
            return
        found = shown(host, id)
        if as_json:
            steps = list(lists.every(host, f"{RUNS}/{id}/steps", "steps"))
            output.print_json({"run": found, "steps": steps, "output": written(host, id)})
            return
        output.note(f"run {output.line(id)} of {output.line(found['automation'])}")
        progress = Progress(host, id)
        try:
            last = ""
            while progress.look(wait=0) and progress.after != last:
                last = progress.after
        except KeyboardInterrupt:
            raise left(id) from None
    output.say(output.line(f"The run {in_words(found)}."), style=style_of(found["status"]))


def cancel(run: RunId, as_json: AsJson = False) -> None:
    """End a run, and what it does where that runs. One that has ended stays as it is."""
    if not _ID.fullmatch(run):
        raise UsageMistake(f"{run} is no id of a run: `ringfence automation runs` shows them")
    with HostClient.connect() as host:
        before = shown(host, run)
        found = host.request("POST", f"{RUNS}/{run}/cancel", params={"wait": 20})
    if as_json:
        output.print_json(found)
    elif found["endedAt"] is None:
        raise CliError(
            "the run is told to end, and has not ended yet",
            hint=f"To see it: `ringfence automation logs {output.line(run)}`.",
        )
    elif before["endedAt"] is not None:
        output.say(f"The run had already ended ({output.line(found['status'])}).")
    else:
        ended = in_words({"status": found["status"]})
        output.say(f"The run {output.line(ended)}.")


def inputs_of(host: HostClient, name: str, given: list[str] | None) -> dict[str, Any]:
    """The inputs by name, each as the automation's definition wants it. Raises `UsageMistake`."""
    if not given:
        return {}
    known = ask(host, "GET", name)["definition"].get("inputs", {})
    found: dict[str, Any] = {}
    for one in given:
        key, sign, value = one.partition("=")
        if not sign:
            raise UsageMistake(f"--input {one!r} must be NAME=VALUE")
        if known.get(key, {}).get("type", "string") == "string":
            found[key] = value
            continue
        try:
            found[key] = json.loads(value)
        except (ValueError, RecursionError) as error:
            kind = known[key]["type"]
            raise UsageMistake(
                f"input {key} must be of type {kind}, written as JSON: {_WRITTEN.get(kind, '3')}"
            ) from error
    return found


def _newest(host: HostClient, name: str) -> str:
    found = host.request("GET", RUNS, params={"automation": name, "limit": 50})["runs"]
    if found:
        # A run that was skipped has no steps: whoever asks means the one that it did not interrupt.
        begun = (one for one in found if one["status"] != Status.SKIPPED)
        return str(next(begun, found[0])["id"])
    ask(host, "GET", name)
    raise CliError(
        f"{name} has not run yet, or not lately", hint=f"Start it: `ringfence automation run {name}`."
    )


def _row(one: Mapping[str, Any]) -> tuple[str | Text, ...]:
    status = str(one["status"])
    return (
        output.line(one["id"]),
        output.line(one["automation"]),
        Text(output.line(status), style=style_of(status) or ""),
        output.line(one["startedBy"] or one["trigger"]["hook"] or one["trigger"]["kind"]),
        output.ago(one["createdAt"]),
        output.line(one["message"] or ""),
    )
