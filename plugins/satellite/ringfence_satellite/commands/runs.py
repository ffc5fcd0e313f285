"""`ringfence runs`: what was asked of satellites in the last day, and what has become of it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from rich.text import Text
from ringfence.cli import AsJson, CliError, HostClient, UsageMistake, names_from, output, report

from ringfence_satellite.client import NAMES, find
from ringfence_satellite.commands import remote_run

app = typer.Typer(help="Show and cancel the runs of the last day on satellites.")

RunId = Annotated[str, typer.Argument(metavar="ID", autocompletion=names_from(remote_run.RUNS, "runs", "id"))]


class State(enum.StrEnum):
    """How far a run can have come."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    RUNNING = "running"
    ENDED = "ended"


@app.callback(invoke_without_command=True)
def unfinished(context: typer.Context) -> None:
    """Show and cancel the runs of the last day on satellites. Without a command, list those that have not ended."""
    if context.invoked_subcommand is not None:
        return
    with HostClient.connect() as host:
        found = _unfinished(host, {})
    if found:
        _table(found)
    else:
        output.say("Nothing is running. `ringfence runs list` shows what has ended.")


@app.command("list")
def list_(
    satellite: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Show only the runs on this satellite.",
            autocompletion=NAMES,
            show_default=False,
        ),
    ] = None,
    state: Annotated[
        State | None, typer.Option(help="Show only runs in this state.", show_default=False)
    ] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Show only those that have not ended.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many of the newest runs to show.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first."""
    if unfinished and state is not None:
        raise UsageMistake("--unfinished and --state contradict one another")
    params: dict[str, str | int] = {"limit": limit}
    if state is not None:
        params["state"] = state.value
    with HostClient.connect() as host:
        if satellite is not None:
            params["satellite"] = str(find(host, satellite)["id"])
        if unfinished:
            found = {"runs": _unfinished(host, params), "next": None}
        else:
            found = host.request("GET", remote_run.RUNS, params=params)
    if as_json:
        output.print_json(found)
        return
    if not found["runs"]:
        output.say("No runs." if len(params) == 1 else "No run matches.")
        return
    _table(found["runs"])


@app.command()
def show(id: RunId, as_json: AsJson = False) -> None:
    """Show a run: how far it has come, and its result once it has ended."""
    with HostClient.connect() as host:
        run = remote_run.show(host, id)
    if as_json:
        output.print_json(run)
        return
    output.show_facts(
        [
            ("id", output.line(run["id"])),
            ("satellite", output.line(run.get("satellite"))),
            ("state", _state(run)),
            (
                "asked",
                f"{output.when(run.get('askedAt'))} by {output.line(run.get('askedBy') or 'a plugin')}",
            ),
            ("delivered", output.when(run.get("deliveredAt"))),
            ("ended", output.when(run.get("endedAt"))),
            *([("reason", output.line(run["reason"]))] if run.get("reason") else []),
        ]
    )
    if isinstance(result := run.get("result"), dict):
        report.show_output(result)
        report.show(result)
    else:
        remote_run.Output().show(run)


@app.command()
def cancel(id: RunId, as_json: AsJson = False) -> None:
    """End a run where it runs. One that has ended stays as it is."""
    with HostClient.connect() as host:
        run = remote_run.cancel(host, id)
    if as_json:
        output.print_json(run)
    elif run["state"] != "ended":
        raise CliError(
            f"{output.line(run.get('satellite'))} was asked to end the run, and has not confirmed it yet",
            hint=f"To see it: `ringfence runs show {output.line(id)}`.",
        )
    elif run["outcome"] == "cancelled":
        output.say("The run is cancelled.")
    else:
        output.say(f"The run had already ended ({output.line(run['outcome'])}).")


def _unfinished(host: HostClient, params: Mapping[str, str | int]) -> list[dict[str, Any]]:
    """The runs that have not ended, as far as one answer for each state has them."""
    found: list[dict[str, Any]] = []
    for state in (State.RUNNING, State.DELIVERED, State.QUEUED):
        wanted = {"limit": 200, **params, "state": state.value}
        found += host.request("GET", remote_run.RUNS, params=wanted)["runs"]
    return found


def _table(runs: Iterable[Mapping[str, Any]]) -> None:
    output.show_table(
        ("id", "satellite", "state", "asked", "by", "kind"),
        (_row(run) for run in runs),
        spare=("kind", "by"),
    )


def _row(run: Mapping[str, Any]) -> tuple[str | Text, ...]:
    return (
        output.line(run["id"]),
        output.line(run.get("satellite")),
        _state(run),
        output.ago(run.get("askedAt")),
        output.line(run.get("askedBy") or "–"),
        output.line(run.get("kind")),
    )


def _state(run: Mapping[str, Any]) -> Text:
    if run.get("state") != "ended":
        return Text(output.line(run.get("state")), style=output.WARN)
    outcome = output.line(run.get("outcome"))
    return Text(outcome, style=output.GOOD if outcome == "finished" else output.BAD)
