"""How far a set is on the machines that get it from the host, and waiting until all of them have it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ringfence.cli import HostClient, output

from ringfence_script_packages.commands.installing import size

LOOK_SECONDS = 0.5


def show_held(state: Mapping[str, Any]) -> None:
    """Show which satellites have a set, and which do not yet."""
    held = state.get("held")
    if not held or not held["counts"]:
        return
    ready, total = _ready(held)
    output.say(f"{ready} of {total} satellites have it.")
    if held["lacking"]:
        output.show_table(
            ("satellite", "state", "has", "because", "heard of"),
            (
                (
                    output.line(one["name"]),
                    output.line(one["state"]),
                    _has(one),
                    output.line(one["error"] or ""),
                    output.ago(one["at"]),
                )
                for one in held["lacking"]
            ),
            spare=("heard of",),
        )


def is_lacking(state: Mapping[str, Any]) -> bool:
    """Whether a satellite that is connected does not have a set."""
    held = state.get("held")
    return bool(held and held["lacking"])


def watch_held(host: HostClient, path: str, timeout: float | None, *, quiet: bool) -> dict[str, Any]:
    """The set at `path` once all satellites have it that are connected, or time is up; until then, how many do."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    deadline = None if timeout is None else time.monotonic() + timeout
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[who]}", markup=False),
    )
    with Progress(*columns, console=output.console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task("satellites", total=None, who="")
        while True:
            state: dict[str, Any] = host.request("GET", path)
            held = state.get("held")
            if state["state"] != "installing" and not is_lacking(state):
                return state
            if deadline is not None and time.monotonic() > deadline:
                return state
            if held:
                ready, total = _ready(held)
                bar.update(task, total=total, completed=ready, who=_who(held["lacking"]))
            time.sleep(LOOK_SECONDS)


def _ready(held: Mapping[str, Any]) -> tuple[int, int]:
    counts: Mapping[str, int] = held["counts"]
    return counts.get("ready", 0), sum(counts.values())


def _who(lacking: list[Mapping[str, Any]]) -> str:
    named = (
        f"{output.line(one['name'])} ({output.line(one['error']) if one['error'] else _has(one)})"
        for one in lacking[:3]
    )
    return f"waiting for {', '.join(named)}" if lacking else ""


def _has(one: Mapping[str, Any]) -> str:
    return f"{size(one['storedBytes'])} of {size(one['bytes'])}"
