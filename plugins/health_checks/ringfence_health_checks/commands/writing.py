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
    lasting_kind_of,
    output,
    read_script,
)
from ringfence_satellite.client import find as find_satellite

from ringfence_health_checks.commands.api import CHECKS, CORE, NameOrId, change, find

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
    every: Annotated[float, typer.Option(min=0.1, metavar="S", help="Seconds from run to run.")] = 60.0,
    timeout: Annotated[
        float, typer.Option(min=0.001, max=3600.0, metavar="S", help="Seconds that a run may take.")
    ] = 30.0,
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
            "intervalSeconds": every,
            "timeoutSeconds": timeout,
            "runsOn": _places(host, on or ([] if tags or selector else [CORE]), tags or [], selector),
            "secrets": secrets or [],
        }
        made = host.request("POST", CHECKS, body=body)
    if as_json:
        output.print_json(made)
    else:
        output.say(f"{output.line(made['name'])} runs every {made['intervalSeconds']:g} s.")


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
        "intervalSeconds": every,
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


def _text(file: str | None, code: str | None) -> str:
    try:
        return read_script(file, code).decode()
    except UnicodeDecodeError as error:
        raise UsageMistake(f"a check's script must be UTF-8 text: {error}") from error


def _places(host: HostClient, on: Sequence[str], tags: Sequence[str], selector: str | None) -> dict[str, Any]:
    satellites = [find_satellite(host, one)["id"] for one in on if one != CORE]
    selected = {} if selector is None else {"selector": selector}
    return {"core": CORE in on, "satellites": satellites, "tags": list(tags), **selected}
