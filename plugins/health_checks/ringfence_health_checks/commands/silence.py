"""`ringfence silence`: whose changes of state nobody wants to be told of for a while."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.text import Text
from ringfence.cli import AsJson, HostClient, UsageMistake, duration, lists, names_from, output
from ringfence_satellite.client import LABELS
from ringfence_satellite.client import every as every_satellite
from ringfence_satellite.client import find as find_satellite

from ringfence_health_checks.commands.api import CHECK_NAMES, CHECKS, CORE, PLACES, find

SILENCES = "/api/health-checks/silences"

app = typer.Typer(
    help="Silence changes of checks' states for a while; they stay events, marked as silenced.",
    no_args_is_help=True,
)


@app.command()
def add(
    check: Annotated[
        str | None,
        typer.Option(
            metavar="NAME-OR-ID",
            help="Of this check.",
            autocompletion=CHECK_NAMES,
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL",
            help="On satellites with this label.",
            autocompletion=LABELS,
            show_default=False,
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="PLACE",
            help="On this satellite, or core.",
            autocompletion=PLACES,
            show_default=False,
        ),
    ] = None,
    length: Annotated[
        float | None,
        typer.Option("--for", parser=duration, metavar="TIME", help="For 30m, 2h, 1d …", show_default=False),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Until then (ISO 8601).", show_default=False)
    ] = None,
    begin: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="From then (ISO 8601).", show_default="now"),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    as_json: AsJson = False,
) -> None:
    """Silence changes of state. What is named must all apply: a check, a label of satellites, a satellite."""
    if check is None and label is None and on is None:
        raise UsageMistake("say what to silence: --check, --label or --on")
    if (length is None) == (until is None):
        raise UsageMistake("say for how long (--for 2h) or until when (--until), and not both")
    if not reason.strip():
        raise UsageMistake("say why: --reason 'moving the database'")
    with HostClient.connect() as host:
        wanted = {
            "check": None if check is None else find(host, check)["id"],
            "label": label,
            "satellite": on if on is None or on == CORE else find_satellite(host, on)["id"],
            "from": begin,
            "until": until,
            "forSeconds": length,
            "reason": reason,
        }
        body = {name: value for name, value in wanted.items() if value is not None}
        made = host.request("POST", SILENCES, body=body)
    if as_json:
        output.print_json(made)
    else:
        output.say(f"Silenced until {output.when(made['until'])}: {output.line(made['id'])}")


@app.command("list")
def list_(
    ended: Annotated[bool, typer.Option("--ended", help="Those that have ended, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List silences, the newest first."""
    query = {"ended": "true"} if ended else {}
    with HostClient.connect() as host:
        found = list(lists.every(host, SILENCES, "silences", query))
        names = {} if as_json or not found else _names(host)
    if as_json:
        output.print_json({"silences": found})
        return
    if not found:
        output.say("Nothing is silenced.")
        return
    output.show_table(
        ("id", "what", "from", "until", "state", "by", "reason"),
        (
            (
                output.line(one["id"]),
                output.line(_what(one, names)),
                output.when(one["from"]),
                output.when(one["until"]),
                _state(one),
                output.line(one["createdBy"]),
                output.line(one["reason"]),
            )
            for one in found
        ),
        spare=("by", "from"),
    )


@app.command()
def end(
    silence: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="As `ringfence silence list` shows it.",
            autocompletion=names_from(SILENCES, "silences", "id"),
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """End a silence now."""
    with HostClient.connect() as host:
        ended = host.request("DELETE", f"{SILENCES}/{quote(silence, safe='')}")
    if as_json:
        output.print_json(ended)
    else:
        output.say(f"The silence {output.line(ended['id'])} is ended.")


def _names(host: HostClient) -> Mapping[str, str]:
    """The names of checks and satellites, by id."""
    checks = {one["id"]: one["name"] for one in lists.every(host, CHECKS, "checks", {"places": 1})}
    return {**checks, **{one["id"]: one["name"] for one in every_satellite(host)}}


def _what(silence: Mapping[str, Any], names: Mapping[str, str]) -> str:
    parts = {"check": silence["check"], "label": silence["label"], "on": silence["satellite"]}
    return ", ".join(f"{what} {names.get(one, one)}" for what, one in parts.items() if one is not None)


def _state(silence: Mapping[str, Any]) -> Text:
    if silence["active"]:
        return Text("active", style=output.WARN)
    return Text("ended by " + output.line(silence["endedBy"]) if silence["endedBy"] else "not active")
