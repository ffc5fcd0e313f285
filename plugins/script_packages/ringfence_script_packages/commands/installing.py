"""How a command waits for a set to be installed, and shows how far that is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ringfence.cli import INTERRUPTED, CliError, HostClient, names_from, output

from ringfence_script_packages.addresses import PACKAGES

if TYPE_CHECKING:
    from rich.progress import Progress

SETS = f"{PACKAGES}/sets"
SET_NAMES = names_from(SETS, "sets")
"""Completes the name of a set."""
LOOK_SECONDS = 0.2
_UNITS = ("bytes", "KiB", "MiB", "GiB")


def set_path(name: str) -> str:
    """The route of a set."""
    return f"{SETS}/{quote(name, safe='')}"


def size(count: float) -> str:
    """A number of bytes for people: `12.3 MiB`."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def watched(host: HostClient, path: str, *, quiet: bool) -> dict[str, Any]:
    """How the set at `path` is when its installation has ended; until then, how far that is.

    Ctrl-C ends the waiting alone: who installs is the host. Raises `CliError` then.
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[doing]}", markup=False),
    )
    try:
        with Progress(*columns, console=output.console(stderr=True), disable=quiet, transient=True) as bar:
            return _followed(host, path, bar)
    except KeyboardInterrupt:
        raise CliError(
            "the host goes on installing the set; what scripts had before, they have until it is complete",
            hint="To see how far it is: `ringfence packages status`, with --set if it is not the default one.",
            exit_code=INTERRUPTED,
        ) from None


def _followed(host: HostClient, path: str, bar: Progress) -> dict[str, Any]:
    task = bar.add_task("waiting", total=None, doing="")
    while True:
        state: dict[str, Any] = host.request("GET", path)
        if state["state"] != "installing":
            return state
        progress = state["progress"]
        if progress:
            is_fetching = progress["phase"] == "fetching"
            bar.update(
                task,
                description=progress["phase"],
                total=max(1, progress["bytes"]) if is_fetching else None,
                completed=progress["bytesDone"],
                doing=output.line(progress["doing"]),
            )
        time.sleep(LOOK_SECONDS)
