"""Automations as commands see them through a host's API."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer
from ringfence.cli import ApiError, CliError, HostClient, lists, names_from

API = "/api/automations"
AUTOMATIONS = f"{API}/automations"
NOT_FOUND = 404

NAMES = names_from(AUTOMATIONS, "automations")
"""Completes the name of an automation."""

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The automation, by its name.",
        autocompletion=NAMES,
    ),
]
Why = Annotated[str | None, typer.Option("--reason", help="Reason for the change; the history keeps it.")]


def address(name: str, *further: str) -> str:
    """Where an automation is, or something of it."""
    return "/".join([AUTOMATIONS, quote(name, safe=""), *further])


def ask(host: HostClient, method: str, name: str, *further: str, **options: Any) -> Any:
    """Ask for an automation, or for something of it.

    Raises:
        CliError: if there is none, naming those that there are.
    """
    try:
        return host.request(method, address(name, *further), **options)
    except ApiError as error:
        if error.status != NOT_FOUND:
            raise
        names = ", ".join(one["name"] for one in lists.every(host, AUTOMATIONS, "automations"))
        there = f"There is: {names}" if names else "None is there yet: `ringfence automation apply FILE`."
        raise CliError(f"there is no automation {name}", hint=there) from error


def why(reason: str | None) -> dict[str, str]:
    """The parameter that gives a reason, if there is one."""
    return {} if reason is None else {"reason": reason}
