"""`ringfence status`: whether all is well with the running host, in at most ten lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from ringfence.cli import output
from ringfence.cli.client import HostClient
from ringfence.cli.options import AsJson

LINES = 10
NOT_WELL = 1
"""The exit status if something is wrong. Warnings alone are told, and are no reason for it."""
_STYLES = {"bad": output.BAD, "warn": output.WARN}


def status(as_json: AsJson = False) -> None:
    """Say how the host is, its policy, satellites and checks, and what needs attention.

    The exit status is 0 if all is well, and 1 if something is wrong.
    """
    with HostClient.connect() as host:
        told = host.request("GET", "/api/host/status")
    if as_json:
        output.print_json(told)
    else:
        for text, style in lines_of(told):
            output.say(output.line(text), style=style)
    if not told["ok"]:
        raise typer.Exit(NOT_WELL)


def lines_of(told: Mapping[str, Any]) -> Sequence[tuple[str, str | None]]:
    """The lines, each with its style. Pure."""
    state, style = _host(told)
    left_out = told["leftOut"]
    plugins = f"Plugins: {len(told['plugins'])} run" + (
        f"; left out: {', '.join(left_out)}" if left_out else ""
    )
    counts = ", ".join(f"{one['what']}: {one['number']:g}" for one in told["counts"])
    lines: list[tuple[str, str | None]] = [
        (f"Host {told['version']}: {state}", style),
        (plugins, output.BAD if left_out else None),
        (f"Numbers: {counts or 'none that this token may see'}", None),
    ]
    if told["silent"]:
        lines.append((f"No answer from: {', '.join(told['silent'])}", output.BAD))
    needs = told["attention"]
    hidden = told["hidden"]
    if not needs:
        lines.append(("Nothing needs attention.", output.GOOD))
    room = LINES - len(lines)
    shown = needs if len(needs) <= room and not hidden else needs[: room - 1]
    lines += [(one["text"], _STYLES.get(one["kind"])) for one in shown]
    if more := len(needs) - len(shown) + hidden:
        lines.append((f"And {more} more: see the overview (ringfence open), or --json.", None))
    return lines


def _host(told: Mapping[str, Any]) -> tuple[str, str]:
    if told["draining"]:
        return "it is stopping", output.WARN
    if told["ready"]:
        return "ready", output.GOOD
    if told["database"] != "ok":
        return f"not ready: the database is {told['database']}", output.BAD
    return "not ready: see /readyz", output.BAD
