"""`ringfence check`: scripts that look at systems again and again, and what they have seen."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.text import Text
from ringfence.cli import (
    FAILURE,
    AsJson,
    CliError,
    Code,
    HostClient,
    Kind,
    ScriptFile,
    ScriptKind,
    UsageMistake,
    lasting_kind_of,
    lists,
    output,
    read_script,
)
from ringfence_satellite.client import every as every_satellite
from ringfence_satellite.client import find as find_satellite

CHECKS = "/api/health-checks/checks"
CORE = "core"
STYLES = {"healthy": output.GOOD, "degraded": output.WARN, "unhealthy": output.BAD, "unknown": output.WARN}
_GRACE_SECONDS = 60.0
"""How much longer than the script's own time an answer may take."""

app = typer.Typer(help="Create, run and read the script checks of a running host.", no_args_is_help=True)

NameOrId = Annotated[str, typer.Argument(metavar="NAME-OR-ID")]
Places = Annotated[
    list[str] | None,
    typer.Option("--on", metavar="PLACE", help="A satellite's name or id, or core; repeat for more."),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="All satellites with this label; repeat for more."),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option("--secret", metavar="NAME", help="A secret that its runs are given; repeat for more."),
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="A name for it.")],
    file: ScriptFile = None,
    code: Code = None,
    kind: ScriptKind = None,
    system: Annotated[
        str | None, typer.Option(help="What it looks at.", show_default="the check's name")
    ] = None,
    every: Annotated[float, typer.Option(min=0.1, metavar="S", help="Seconds from run to run.")] = 60.0,
    timeout: Annotated[
        float, typer.Option(min=0.001, max=3600.0, metavar="S", help="Seconds that a run may take.")
    ] = 30.0,
    on: Places = None,
    tags: Tags = None,
    secrets: Secrets = None,
    as_json: AsJson = False,
) -> None:
    """Create a check. It runs from now on, in each place that is named (by default the core).

    Exit status 0 means healthy and any other unhealthy; a Python or ESM script may also give back a value like
    {"status": "degraded", "message": "…", "metrics": {"name": 1.5}}, which a shell script prints as its last line.
    """
    text = _text(file, code)
    with HostClient.connect() as host:
        body = {
            "name": name,
            "system": system or name,
            "kind": (kind or lasting_kind_of(file, text.encode())).value,
            "script": text,
            "intervalSeconds": every,
            "timeoutSeconds": timeout,
            "runsOn": _places(host, on or ([] if tags else [CORE]), tags or []),
            "secrets": secrets or [],
        }
        made = host.request("POST", CHECKS, body=body)
    if as_json:
        output.print_json(made)
    else:
        output.say(f"{output.line(made['name'])} runs every {made['intervalSeconds']:g} s.")


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
        ("name", "system", "every", "status", "places", "worst on", "message", "seen"),
        (_row(check, names) for check in checks),
        spare=("system", "every", "worst on"),
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
    output.show_facts(
        (
            ("name", output.line(found["name"])),
            ("id", output.line(found["id"])),
            ("system", output.line(found["system"])),
            ("status", _status(_state(found))),
            ("places", _counts(found) if found.get("counts") else output.line(found.get("reason") or "–")),
            ("runs", f"every {found['intervalSeconds']:g} s, for at most {found['timeoutSeconds']:g} s"),
            ("on", output.line(", ".join(where))),
            ("secrets", output.line(", ".join(found["secrets"])) or "–"),
            ("changed", f"{output.when(found['updatedAt'])} by {output.line(found['updatedBy'])}"),
            ("kind", found["kind"]),
        )
    )
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
        typer.Option("--on", metavar="PLACE", help="Only there: a satellite's name or id, or core."),
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
def update(
    check: NameOrId,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Another script; - reads it from standard input.")
    ] = None,
    code: Annotated[str | None, typer.Option("-c", metavar="CODE", help="Another script itself.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Of another kind.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option(help="Another name.", show_default=False)] = None,
    system: Annotated[str | None, typer.Option(help="What it looks at.", show_default=False)] = None,
    every: Annotated[
        float | None, typer.Option(min=0.1, metavar="S", help="Seconds from run to run.", show_default=False)
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=3600.0, metavar="S", help="Seconds that a run may take.", show_default=False
        ),
    ] = None,
    on: Places = None,
    tags: Tags = None,
    secrets: Secrets = None,
    no_secrets: Annotated[bool, typer.Option("--no-secrets", help="Give its runs no secrets.")] = False,
    as_json: AsJson = False,
) -> None:
    """Change a check; what is not named stays.

    --on and --tag together say anew where it runs, and --secret which secrets it has. With a FILE the kind is the one
    that its first line or its suffix says, if they say any.
    """
    if secrets and no_secrets:
        raise UsageMistake("--secret and --no-secrets contradict one another")
    text = None if file is None and code is None else _text(file, code)
    if text is not None and file is not None and kind is None:
        with contextlib.suppress(UsageMistake):
            kind = lasting_kind_of(file, text.encode())
    wanted = {
        "name": name,
        "system": system,
        "kind": None if kind is None else kind.value,
        "script": text,
        "intervalSeconds": every,
        "timeoutSeconds": timeout,
        "secrets": [] if no_secrets else secrets or None,
    }
    body: dict[str, Any] = {key: value for key, value in wanted.items() if value is not None}
    if not (body or on or tags):
        raise UsageMistake("say what to change; see: ringfence check update --help")
    with HostClient.connect() as host:
        found = find(host, check)
        if on or tags:
            body["runsOn"] = _places(host, on or [], tags or [])
        _change(host, found, body, as_json, "is changed")


@app.command()
def enable(check: NameOrId, as_json: AsJson = False) -> None:
    """Have a check run again."""
    with HostClient.connect() as host:
        _change(host, find(host, check), {"enabled": True}, as_json, "is enabled")


@app.command()
def disable(check: NameOrId, as_json: AsJson = False) -> None:
    """Have a check not run until it is enabled; what it has seen stays."""
    with HostClient.connect() as host:
        _change(host, find(host, check), {"enabled": False}, as_json, "is disabled")


@app.command()
def delete(check: NameOrId, as_json: AsJson = False) -> None:
    """Delete a check and all of its results."""
    with HostClient.connect() as host:
        found = find(host, check)
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
        str | None,
        typer.Option(help="Only healthy, degraded, unhealthy or unknown ones.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the newest results of a check."""
    with HostClient.connect() as host:
        found = find(host, check)
        query: dict[str, str | int] = {"limit": limit} | ({} if status is None else {"status": status})
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


def find(host: HostClient, name_or_id: str) -> dict[str, Any]:
    """The check of that id or name.

    Raises:
        CliError: if there is none, naming some that there are.
    """
    if (found := lists.find(host, CHECKS, "checks", name_or_id)) is not None:
        return found
    known = lists.names(host, CHECKS, "checks")
    raise CliError(
        f"there is no check {name_or_id!r}",
        hint=f"There are: {known}." if known else "None is there yet: `ringfence check create NAME FILE`.",
    )


def _change(
    host: HostClient, check: Mapping[str, Any], body: Mapping[str, Any], as_json: bool, done: str
) -> None:
    changed = host.request("PATCH", f"{CHECKS}/{quote(check['id'], safe='')}", body=body)
    if as_json:
        output.print_json(changed)
    else:
        output.say(f"{output.line(changed['name'])} {done}.")


def _text(file: str | None, code: str | None) -> str:
    try:
        return read_script(file, code).decode()
    except UnicodeDecodeError as error:
        raise UsageMistake(f"a check's script must be UTF-8 text: {error}") from error


def _places(host: HostClient, on: Sequence[str], tags: Sequence[str]) -> dict[str, Any]:
    satellites = [find_satellite(host, one)["id"] for one in on if one != CORE]
    return {"core": CORE in on, "satellites": satellites, "tags": list(tags)}


def _names(host: HostClient, answer: Mapping[str, Any]) -> Mapping[str, str]:
    """The names of the satellites in an answer. A host of an older release does not tell them."""
    if "names" in answer:
        names: dict[str, str] = answer["names"]
        return names
    return {one["id"]: one["name"] for one in every_satellite(host)}


def _row(check: Mapping[str, Any], names: Mapping[str, str]) -> tuple[str | Text, ...]:
    """A check in a line."""
    worst = check["latest"][0] if check["latest"] else None
    return (
        output.line(check["name"]),
        output.line(check["system"]),
        f"{check['intervalSeconds']:g} s",
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
