"""`ringfence check`: scripts that look at systems again and again, and what they have seen."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.text import Text
from ringfence.cli import FAILURE, AsJson, HostClient, WithProgram, Yes, confirm, lists, output
from ringfence_satellite.client import every as every_satellite

from ringfence_health_checks.commands.api import CHECKS, CORE, PLACES, NameOrId, change, find, when
from ringfence_health_checks.commands.catalogue import app as catalogue
from ringfence_health_checks.commands.tried import STYLES
from ringfence_health_checks.commands.trying import try_
from ringfence_health_checks.commands.work import shown
from ringfence_health_checks.commands.writing import create, update


class Status(enum.StrEnum):
    """What a check can say."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


_GRACE_SECONDS = 60.0
"""How much longer than the script's own time an answer may take."""

app = typer.Typer(help="Create, run and read the script checks of a running host.", no_args_is_help=True)
app.command(cls=WithProgram)(create)
app.command(cls=WithProgram)(update)
app.command("try", cls=WithProgram)(try_)
app.add_typer(catalogue, name="catalogue")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the checks: how each is, in how many places it is how, and what was seen where it is worst."""
    query = {} if as_json else {"places": 1}
    with HostClient.connect() as host:
        checks: list[dict[str, Any]] = []
        names: dict[str, str] = {}
        for answer in lists.pages(host, CHECKS, query):
            checks += answer["checks"]
            if not as_json:
                names |= _names(host, answer)
    if as_json:
        output.print_json({"checks": checks})
        return
    if not checks:
        output.say("No checks yet: create one with `ringfence check create NAME FILE`.")
        return
    output.show_table(
        ("name", "system", "runs", "status", "places", "worst on", "message", "seen"),
        (_row(check, names) for check in checks),
        spare=("system", "runs", "worst on"),
    )


@app.command()
def show(check: NameOrId, as_json: AsJson = False) -> None:
    """Show a check: its definition, its script, and what it has seen last."""
    with HostClient.connect() as host:
        found = find(host, check)
        if "script" not in found:  # lists leave it out
            found = host.request("GET", f"{CHECKS}/{quote(found['id'], safe='')}")
        names = {} if as_json else _names(host, found)
    if as_json:
        output.print_json(found)
        return
    places = found["runsOn"]
    where = [CORE] * places["core"] + [names.get(one, one) for one in places["satellites"]]
    where += [f"tag {tag}" for tag in places["tags"]]
    where += [f"satellites with {places['selector']}"] if places.get("selector") else []
    output.show_facts(
        (
            ("name", output.line(found["name"])),
            ("id", output.line(found["id"])),
            ("system", output.line(found["system"])),
            ("status", _status(_state(found))),
            ("places", _counts(found) if found.get("counts") else output.line(found.get("reason") or "–")),
            ("runs", output.line(f"{when(found)}, for at most {found['timeoutSeconds']:g} s")),
            ("on", output.line(", ".join(where))),
            ("secrets", output.line(", ".join(_secrets(found["secrets"]))) or "–"),
            ("changed", f"{output.when(found['updatedAt'])} by {output.line(found['updatedBy'])}"),
            *shown(found),
        )
    )
    if "script" in found:
        output.say("\nscript", style=output.DIM)
        output.say(output.plain(found["script"].rstrip()))
    if found["latest"]:
        output.say("")
        output.show_table(
            ("on", "status", "latency", "message", "seen"),
            ((output.line(names.get(one["ranOn"], one["ranOn"])), *_seen(one)) for one in found["latest"]),
        )
    if found.get("latestTruncated"):
        output.note(f"Only those that are worst off are shown. In all: {_counts(found)}.")


@app.command()
def run(
    check: NameOrId,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="PLACE",
            help="Only there: a satellite's name or id, or core.",
            autocompletion=PLACES,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a check now, wherever it runs.

    The exit status is 1 if it is unhealthy or unknown, or could not be run, anywhere.
    """
    with HostClient.connect() as host:
        found = find(host, check)
        path = f"{CHECKS}/{quote(found['id'], safe='')}/run"
        seconds = found["timeoutSeconds"] + _GRACE_SECONDS
        answer = host.request("POST", path, body={"on": on}, timeout=seconds)
    if as_json:
        output.print_json(answer)
    else:
        output.show_table(
            ("on", "status", "latency", "message", "metrics"), (_attempt(one) for one in answer["results"])
        )
    if any(
        one["error"] is not None or one["status"] in {"unhealthy", "unknown"} for one in answer["results"]
    ):
        raise typer.Exit(FAILURE)


@app.command()
def enable(check: NameOrId, as_json: AsJson = False) -> None:
    """Have a check run again."""
    with HostClient.connect() as host:
        change(host, find(host, check), {"enabled": True}, as_json, "is enabled")


@app.command()
def disable(check: NameOrId, as_json: AsJson = False) -> None:
    """Have a check not run until it is enabled; what it has seen stays."""
    with HostClient.connect() as host:
        change(host, find(host, check), {"enabled": False}, as_json, "is disabled")


@app.command()
def delete(check: NameOrId, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete a check and all of its results; asks first if it has any."""
    with HostClient.connect() as host:
        found = find(host, check)
        results = f"{CHECKS}/{quote(found['id'], safe='')}/results"
        if not yes and host.request("GET", results, params={"limit": 1})["results"]:
            confirm(f"Delete the check {found['name']}, and all of its results?", yes=yes)
        host.request("DELETE", f"{CHECKS}/{quote(found['id'], safe='')}")
    if as_json:
        output.print_json({"deleted": found["id"]})
    else:
        output.say(f"{output.line(found['name'])} is deleted.")


@app.command()
def results(
    check: NameOrId,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the newest.")] = 20,
    status: Annotated[
        Status | None, typer.Option(help="Only those of this status.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the newest results of a check."""
    with HostClient.connect() as host:
        found = find(host, check)
        query: dict[str, str | int] = {"limit": limit} | ({} if status is None else {"status": status.value})
        answer = host.request("GET", f"{CHECKS}/{quote(found['id'], safe='')}/results", params=query)
        names = {} if as_json else _names(host, answer)
    if as_json:
        output.print_json(answer)
        return
    output.show_table(
        ("when", "on", "status", "latency", "message", "metrics"),
        (
            (
                output.when(one["executedAt"]),
                output.line(names.get(one["ranOn"], one["ranOn"])),
                _status(one["status"]),
                _latency(one["latencyMs"]),
                output.line(one["message"]),
                _metrics(one["metrics"]),
            )
            for one in answer["results"]
        ),
    )


def _names(host: HostClient, answer: Mapping[str, Any]) -> Mapping[str, str]:
    """The names of the satellites in an answer. A host of an older release does not tell them."""
    if "names" in answer:
        names: dict[str, str] = answer["names"]
        return names
    return {one["id"]: one["name"] for one in every_satellite(host)}


def _secrets(secrets: Sequence[str] | Mapping[str, str]) -> list[str]:
    """Each secret's name, or a variable with the text that names some."""
    if not isinstance(secrets, Mapping):
        return list(secrets)
    return [name if text == f"{{{name}}}" else f"{name}={text}" for name, text in secrets.items()]


def _row(check: Mapping[str, Any], names: Mapping[str, str]) -> tuple[str | Text, ...]:
    """A check in a line."""
    worst = check["latest"][0] if check["latest"] else None
    return (
        output.line(check["name"]),
        output.line(check["system"]),
        output.line(when(check).removeprefix("every ")),
        _status(_state(check)),
        _counts(check),
        "–" if worst is None else output.line(names.get(worst["ranOn"], worst["ranOn"])),
        output.line(check.get("reason") or "") if worst is None else _message(worst),
        "–" if worst is None else output.ago(worst["executedAt"]),
    )


def _state(check: Mapping[str, Any]) -> str:
    """How a check is. A host of an older release does not tell, and has the worst place first."""
    if not check["enabled"]:
        return "disabled"
    told: str = check.get("status") or (check["latest"][0]["status"] if check["latest"] else "unknown")
    return told


def _counts(check: Mapping[str, Any]) -> str:
    counts: Mapping[str, int] = check.get("counts") or {}
    return ", ".join(f"{count} {output.line(status)}" for status, count in counts.items()) or "–"


def _seen(one: Mapping[str, Any]) -> tuple[str | Text, ...]:
    return _status(one["status"]), _latency(one["latencyMs"]), _message(one), output.ago(one["executedAt"])


def _message(one: Mapping[str, Any]) -> str:
    """What the newest result says; of a place that is stale why it is, and how it was last."""
    told = str(one["message"])
    if stale := one.get("stale"):
        last = stale["last"]
        told = stale["reason"] if last is None else f"{stale['reason']}; was {last['status']}: {told}"
    marks = [mark for mark in ("flapping", "silenced") if one.get(mark)]
    return output.line(told + "".join(f" ({mark})" for mark in marks))


def _attempt(one: Mapping[str, Any]) -> tuple[str | Text, ...]:
    name = output.line(one["name"])
    if one["error"] is not None:
        return name, Text("not run", style=output.BAD), "–", output.line(one["error"]), "–"
    return (
        name,
        _status(one["status"]),
        _latency(one["latencyMs"]),
        output.line(one["message"]),
        _metrics(one["metrics"]),
    )


def _status(status: str) -> Text:
    return Text(output.line(status), style=STYLES.get(status, output.DIM))


def _latency(milliseconds: float | None) -> str:
    return "–" if milliseconds is None else f"{milliseconds:.{0 if milliseconds >= 10 else 1}f} ms"


def _metrics(metrics: Mapping[str, Any]) -> str:
    """Each metric with its unit. One of which there is no more to tell is a bare number."""
    told = (
        (name, one["value"], one.get("unit", "")) if isinstance(one, dict) else (name, one, "")
        for name, one in metrics.items()
    )
    return output.line(" ".join(f"{name}={value:g}{unit}" for name, value, unit in told)) or "–"
