"""`ringfence check create` and `update`: what a check runs, where and how often."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from ringfence.cli import (
    AsJson,
    Code,
    HostClient,
    Kind,
    ScriptFile,
    ScriptKind,
    UsageMistake,
    duration,
    lasting_kind_of,
    output,
    read_script,
)
from ringfence_satellite.client import find as find_satellite

from ringfence_health_checks.commands.api import CHECKS, CORE, NameOrId, change, find, when

DEFAULT_INTERVAL_SECONDS, DEFAULT_TIMEOUT_SECONDS = 60.0, 30.0

Places = Annotated[
    list[str] | None,
    typer.Option("--on", metavar="PLACE", help="A satellite's name or id, or core; repeat for more."),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="All satellites with this tag; repeat for more."),
]
Selector = Annotated[
    str | None,
    typer.Option(
        "--selector",
        "-l",
        metavar="SELECTOR",
        help="All satellites whose labels are so: region=eu,role in (web, api),!old",
        show_default=False,
    ),
]
Every = Annotated[
    float | None,
    typer.Option(
        parser=duration,
        metavar="TIME",
        help="How long from run to run: 30s, 5m, 1h, or seconds; at first 60s.",
        show_default=False,
    ),
]
CronTimes = Annotated[
    str | None,
    typer.Option(
        "--cron", metavar="TIMES", help="When it runs, as in '*/5 8-18 * * MON-FRI'.", show_default=False
    ),
]
TimeZone = Annotated[
    str | None,
    typer.Option(
        "--timezone", metavar="ZONE", help="Whose clock --cron goes by; at first UTC.", show_default=False
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        parser=duration, metavar="TIME", help="How long a run may take; at first 30s.", show_default=False
    ),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option("--secret", metavar="NAME", help="A secret that its runs are given; repeat for more."),
]


def create(
    name: Annotated[str, typer.Argument(help="A name for it.")],
    file: ScriptFile = None,
    code: Code = None,
    kind: ScriptKind = None,
    system: Annotated[
        str | None, typer.Option(help="What it looks at.", show_default="the check's name")
    ] = None,
    every: Every = None,
    cron: CronTimes = None,
    timezone: TimeZone = None,
    timeout: Timeout = None,
    on: Places = None,
    tags: Tags = None,
    selector: Selector = None,
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
            **_schedule(every, cron, timezone, default=DEFAULT_INTERVAL_SECONDS),
            "timeoutSeconds": DEFAULT_TIMEOUT_SECONDS if timeout is None else timeout,
            "runsOn": _places(host, on or ([] if tags or selector else [CORE]), tags or [], selector),
            "secrets": secrets or [],
        }
        made = host.request("POST", CHECKS, body=body)
    if as_json:
        output.print_json(made)
    else:
        output.say(output.line(f"{made['name']} runs {when(made)}."))


def update(
    check: NameOrId,
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Another script; - reads it from standard input.")
    ] = None,
    code: Annotated[str | None, typer.Option("-c", metavar="CODE", help="Another script itself.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Of another kind.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option(help="Another name.", show_default=False)] = None,
    system: Annotated[str | None, typer.Option(help="What it looks at.", show_default=False)] = None,
    every: Every = None,
    cron: CronTimes = None,
    timezone: TimeZone = None,
    timeout: Timeout = None,
    on: Places = None,
    tags: Tags = None,
    selector: Selector = None,
    secrets: Secrets = None,
    no_secrets: Annotated[bool, typer.Option("--no-secrets", help="Give its runs no secrets.")] = False,
    as_json: AsJson = False,
) -> None:
    """Change a check; what is not named stays.

    --on, --tag and --selector together say anew where it runs, and --secret which secrets it has. With a FILE the kind
    is the one that its first line or its suffix says, if they say any.
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
        **_schedule(every, cron, timezone, default=None),
        "timeoutSeconds": timeout,
        "secrets": [] if no_secrets else secrets or None,
    }
    body: dict[str, Any] = {key: value for key, value in wanted.items() if value is not None}
    if not (body or on or tags or selector):
        raise UsageMistake("say what to change; see: ringfence check update --help")
    with HostClient.connect() as host:
        found = find(host, check)
        if on or tags or selector:
            body["runsOn"] = _places(host, on or [], tags or [], selector)
        change(host, found, body, as_json, "is changed")


def _schedule(
    every: float | None, cron: str | None, timezone: str | None, *, default: float | None
) -> dict[str, Any]:
    """When a check is to run, as the host takes it. A time zone alone is for the times that it has already."""
    if every is not None and (cron is not None or timezone is not None):
        raise UsageMistake(
            "--every contradicts --cron and --timezone: a check has either an interval or times"
        )
    if timezone is not None and cron is None and default is not None:
        raise UsageMistake("--timezone needs --cron, whose times are by that clock")
    given = {"intervalSeconds": every, "cron": cron, "timezone": timezone}
    found = {name: value for name, value in given.items() if value is not None}
    return found or ({} if default is None else {"intervalSeconds": default})


def _text(file: str | None, code: str | None) -> str:
    try:
        return read_script(file, code).decode()
    except UnicodeDecodeError as error:
        raise UsageMistake(f"a check's script must be UTF-8 text: {error}") from error


def _places(host: HostClient, on: Sequence[str], tags: Sequence[str], selector: str | None) -> dict[str, Any]:
    satellites = [find_satellite(host, one)["id"] for one in on if one != CORE]
    selected = {} if selector is None else {"selector": selector}
    return {"core": CORE in on, "satellites": satellites, "tags": list(tags), **selected}
