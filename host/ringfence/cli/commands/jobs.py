"""`ringfence jobs`: what is to be done, what is being done, what became of it, and when it is done again."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any
from urllib.parse import quote

import typer

from ringfence.cli import lists, output
from ringfence.cli.client import HostClient
from ringfence.cli.completing import names_from
from ringfence.cli.options import AsJson

JOBS = "/api/host/jobs"
MOST_LISTED = 10_000

app = typer.Typer(help="Look at the jobs of a running host, and cancel or retry them.", no_args_is_help=True)
IDS = names_from(JOBS, "jobs", "id")
Ids = Annotated[
    list[str],
    typer.Argument(metavar="ID...", help="Ids of jobs, as `jobs list` shows them.", autocompletion=IDS),
]


class Status(enum.StrEnum):
    """How far a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@app.command(name="list")
def list_(
    plugin: Annotated[
        str | None,
        typer.Option(
            help="Show only jobs of this plugin.", autocompletion=names_from(JOBS, "jobs", "plugin")
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Show only jobs of this kind, such as host.trim-events.",
            autocompletion=names_from(JOBS, "jobs", "kind"),
        ),
    ] = None,
    status: Annotated[Status | None, typer.Option(help="Show only jobs that are so far.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=MOST_LISTED, help="How many to show at most, the newest first.")
    ] = 50,
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first. Those that have ended are listed for as long as they are kept."""
    given = {"plugin": plugin, "kind": kind, "status": status, "limit": min(limit, lists.PAGE)}
    params: dict[str, str | int] = {name: value for name, value in given.items() if value is not None}
    with HostClient.connect() as host:
        found = list(islice(lists.every(host, JOBS, "jobs", params), limit))
    if as_json:
        output.print_json({"jobs": found})
        return
    if not found:
        output.say("There is no such job." if plugin or kind or status else "There is no job.")
        return
    output.show_table(
        ("id", "kind", "status", "tries", "when", "what"),
        (
            (
                output.line(one["id"]),
                output.line(one["kind"]),
                output.line(one["status"]),
                str(one["attempts"]),
                _when(one),
                output.line(_what(one)),
            )
            for one in found
        ),
    )


@app.command()
def show(
    id: Annotated[
        str,
        typer.Argument(metavar="ID", help="The job's id, as `jobs list` shows it.", autocompletion=IDS),
    ],
    as_json: AsJson = False,
) -> None:
    """Show one job, and what it was given, if the token may see that."""
    with HostClient.connect() as host:
        one = host.request("GET", f"{JOBS}/{quote(id, safe='')}")
    if as_json:
        output.print_json(one)
        return
    facts: dict[str, Any] = {
        "id": one["id"],
        "kind": one["kind"],
        "status": one["status"],
        "enqueued": output.ago(one["enqueuedAt"]),
        "on behalf of": one["actor"],
        "key": one["key"],
        "timetable": one["timetable"],
        "due": output.when(one["dueAt"]) if one["status"] == "waiting" else None,
        "begun": output.ago(one["begunAt"]) if one["begunAt"] else None,
        "ended": output.ago(one["endedAt"]) if one["endedAt"] else None,
        "tries": f"{one['attempts']} ({one['failures']} failed, {one['instancesLost']} lost their instance)",
        "instance": one["instance"],
        "now": _what(one),
        "payload": "withheld: it takes the access rule host.job.manage"
        if one["payloadWithheld"]
        else json.dumps(one["payload"], ensure_ascii=True),
    }
    output.show_facts((name, output.line(str(value))) for name, value in facts.items() if value)


@app.command()
def cancel(ids: Ids, as_json: AsJson = False) -> None:
    """Cancel jobs: one that waits is never begun, and one that runs is ended where it runs."""
    answers = _each(ids, "cancel")
    if as_json:
        output.print_json({"jobs": answers})
        return
    for one in answers:
        name = output.line(f"{one['kind']} {one['id']}")
        output.say(
            f"{name} is cancelled."
            if one["status"] == "cancelled"
            else f"{name} is told to end where it runs."
        )


@app.command()
def retry(ids: Ids, as_json: AsJson = False) -> None:
    """Have jobs that failed, or were cancelled, tried again."""
    answers = _each(ids, "retry")
    if as_json:
        output.print_json({"jobs": answers})
        return
    for one in answers:
        output.say(output.line(f"{one['kind']} {one['id']} waits to be tried again."))


@app.command()
def timetables(as_json: AsJson = False) -> None:
    """List what is enqueued again and again, and when the next time is."""
    with HostClient.connect() as host:
        found = list(lists.every(host, f"{JOBS}/timetables", "timetables"))
    if as_json:
        output.print_json({"timetables": found})
        return
    if not found:
        output.say("There is no timetable.")
        return
    output.show_table(
        ("plugin", "timetable", "job", "schedule", "next", "last"),
        (
            (
                output.line(one["plugin"]),
                output.line(one["name"]),
                output.line(one["kind"]),
                output.line(one["schedule"] if one["zone"] == "UTC" else f"{one['schedule']} {one['zone']}"),
                output.when(one["nextAt"]) if one["served"] else "when an instance does such jobs",
                output.ago(one["lastAt"]) if one["lastAt"] else "never",
            )
            for one in found
        ),
    )


def _each(ids: list[str], act: str) -> list[dict[str, Any]]:
    with HostClient.connect() as host:
        return [host.request("POST", f"{JOBS}/{quote(id, safe='')}/{act}") for id in ids]


def _when(one: Mapping[str, Any]) -> str:
    if one["status"] == "waiting":
        return output.when(one["dueAt"])
    return output.ago(one["endedAt"] or one["begunAt"])


def _what(one: Mapping[str, Any]) -> str:
    """What there is to say of a job's state: why it does not begin, how far it is, or why it failed."""
    if one["status"] == "waiting" and not one["served"]:
        return f"no instance does such jobs: is {one['plugin']} installed and running?"
    if one["status"] == "running":
        if one["cancelRequested"]:
            return "is being cancelled"
        progress = one["progress"] or {}
        done = "" if progress.get("done") is None else str(progress["done"])
        of = "" if progress.get("of") is None else f" of {progress['of']}"
        return " ".join(filter(None, (f"{done}{of}".strip(), progress.get("text") or "")))
    return one["error"] or ""
