"""Checks as commands see them through a host's API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer
from ringfence.cli import HostClient, lists, names_from, output
from ringfence_satellite.client import SATELLITES

CHECKS = "/api/health-checks/checks"
TRIES = "/api/health-checks/tries"
CORE = "core"

CHECK_NAMES = names_from(CHECKS, "checks")
PLACES = names_from(SATELLITES, "satellites", also=(CORE,))
"""Completes the name of a place."""

NameOrId = Annotated[str, typer.Argument(metavar="NAME-OR-ID", autocompletion=CHECK_NAMES)]


def find(host: HostClient, name_or_id: str) -> dict[str, Any]:
    """The check of that id or name.

    Raises:
        CliError: if there is none, naming some that there are.
    """
    how = "None is there yet: `ringfence check create NAME FILE`."
    return lists.one(host, CHECKS, "checks", name_or_id, what="check", how_to_make=how)


def change(
    host: HostClient, check: Mapping[str, Any], body: Mapping[str, Any], as_json: bool, done: str
) -> None:
    """Change a check, and show what came of it."""
    changed = host.request("PATCH", f"{CHECKS}/{quote(check['id'], safe='')}", body=body)
    if as_json:
        output.print_json(changed)
    else:
        output.say(f"{output.line(changed['name'])} {done}.")


def when(check: Mapping[str, Any]) -> str:
    """When a check runs, in words."""
    if (cron := check.get("cron")) is not None:
        return f"at {cron} ({check.get('timezone') or 'UTC'})"
    return f"every {check['intervalSeconds']:g} s"
