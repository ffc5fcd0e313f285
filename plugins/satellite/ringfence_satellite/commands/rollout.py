"""`ringfence policy rollout`: how far the last change has come, who lags, and who refuses runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from ringfence.cli import FAILURE, AsJson, HostClient, UsageMistake, output

ROLLOUT = "/api/satellite/rollout"
LOOK_SECONDS = 0.2


def rollout(
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep watching until every satellite has it.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="With --watch: give up after so many seconds.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how many of the online satellites have applied the current policy, who lags, and who refuses runs under it.

    Exits with 1 if some have not applied it.
    """
    if timeout is not None and not watch:
        raise UsageMistake("--timeout sets how long to watch: use it with --watch")
    with HostClient.connect() as host:
        progress = _watched(host, timeout, quiet=as_json) if watch else host.request("GET", ROLLOUT)
    if as_json:
        output.print_json(progress)
    else:
        _show(progress)
    if not progress["complete"]:
        raise typer.Exit(FAILURE)


def _watched(host: HostClient, timeout: float | None, *, quiet: bool) -> dict[str, Any]:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    deadline = None if timeout is None else time.monotonic() + timeout
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[who]}", markup=False),
    )
    with Progress(*columns, console=output.console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task("", who="")
        while True:
            progress: dict[str, Any] = host.request("GET", ROLLOUT)
            lagging = [output.line(one["name"]) for one in progress["lagging"][:3]]
            bar.update(
                task,
                description=f"revision {progress['revision']}",
                total=max(1, progress["online"]),
                completed=progress["applied"] if progress["online"] else 1,
                who=f"waiting for {', '.join(lagging)}" if lagging else "",
            )
            if progress["complete"] or (deadline is not None and time.monotonic() > deadline):
                return progress
            time.sleep(LOOK_SECONDS)


def _show(progress: Mapping[str, Any]) -> None:
    away = progress["offline"] + progress["never"]
    output.say(
        f"revision {progress['revision']}: applied by {progress['applied']} of {progress['online']} satellites online "
        f"({progress['percent']:g} %)"
        + (f"; {away} not connected, to have it when they come" if away else "")
    )
    if progress["lagging"]:
        output.show_table(
            ("lagging", "region", "has revision", "heard of"),
            [
                (
                    output.line(one["name"]),
                    output.line(one["region"]),
                    _revision(one),
                    output.ago(one["lastHeartbeatAt"]),
                )
                for one in progress["lagging"]
            ],
        )
    if unknown := progress.get("unknownCount"):
        output.note(
            f"{unknown} of them {'is' if unknown == 1 else 'are'} on a revision that this host's database does not "
            "have, because it was set back; start the agents of those again"
        )
    for name, counts in (progress.get("packages") or {}).items():
        if lacking := sum(counts.values()) - counts.get("ready", 0) - counts.get("offline", 0):
            named = output.line(name)
            output.note(
                f"The packages of the set {named} are not yet on {lacking} of {sum(counts.values())} satellites: "
                f"`ringfence packages status --set {named}` says why."
            )
    if more := progress["laggingCount"] - len(progress["lagging"]):
        output.say(f"… and {more} more.")
    if progress["downgraded"]:
        refusing = progress.get("refusingCount")
        if refusing:
            output.say(
                f"{refusing} {'satellite refuses' if refusing == 1 else 'satellites refuse'} every run under this "
                "revision, since the policy asks for what they cannot enforce:",
                style=output.BAD,
            )
        output.show_table(
            ("refuses runs" if refusing else "downgraded", "region", "because"),
            [
                (
                    output.line(one["name"]),
                    output.line(one["region"]),
                    output.line("; ".join(f"{two['layer']}: {two['reason']}" for two in one["downgrades"])),
                )
                for one in progress["downgraded"]
            ],
        )


def _revision(one: Mapping[str, Any]) -> str:
    if one["appliedRevision"] is None:
        return "–"
    return f"{one['appliedRevision']}{', unknown here' if one.get('appliedUnknown') else ''}"
