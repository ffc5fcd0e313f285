"""`ringfence notify route`: which events are told, to whom and in which words."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from ringfence.cli import (
    AsJson,
    HostClient,
    UsageMistake,
    Yes,
    confirm,
    duration,
    lists,
    names_from,
    names_here,
    output,
)

from ringfence_notifications.commands.addresses import CHANNEL_NAMES, ROUTES, of

app = typer.Typer(help="Write, change and remove routes.", no_args_is_help=True)

HOOKS = names_from("/api/host/plugins", "plugins", lambda one: one["hooks"], all_at_once=True)

Name = Annotated[
    str,
    typer.Argument(
        metavar="ROUTE",
        help="Name of the route, such as failing-checks.",
        autocompletion=names_from(ROUTES, "routes"),
    ),
]
Hook = Annotated[
    str | None,
    typer.Option(
        metavar="HOOK",
        help="The hook whose events are told.",
        autocompletion=HOOKS,
        show_default=False,
    ),
]
Filter = Annotated[
    str | None,
    typer.Option(metavar="CEL", help="Only these: 'event.labels.env == \"prod\"'.", show_default=False),
]
Title = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT", help="What a message is headed: '{{ event.name }} is new'.", show_default=False
    ),
]
Text = Annotated[str | None, typer.Option(metavar="TEXT", help="What it says.", show_default=False)]
Link = Annotated[str | None, typer.Option(metavar="URL", help="A page that it links to.", show_default=False)]
Severity = Annotated[
    str | None,
    typer.Option(
        metavar="SEVERITY",
        help="info, warning, error, critical, or {{ CEL }} that says one.",
        autocompletion=names_here(lambda: ("info", "warning", "error", "critical")),
        show_default=False,
    ),
]
Key = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="What is one incident: '{{ event.satelliteId }}'.", show_default=False),
]
Group = Annotated[
    str | None, typer.Option(metavar="TEXT", help="What may be told in one message.", show_default=False)
]
What = Annotated[
    str | None,
    typer.Option(metavar="WORDS", help="What its incidents are called, in the plural.", show_default=False),
]
Channels = Annotated[
    list[str] | None,
    typer.Option(
        "--channel",
        metavar="CHANNEL",
        help="To this channel; otherwise to all.",
        autocompletion=CHANNEL_NAMES,
        show_default=False,
    ),
]
Recovered = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HOOK[=CEL]",
        autocompletion=HOOKS,
        help="Which events end an incident: it lasts until then, and is told again.",
        show_default=False,
    ),
]
Window = Annotated[
    float | None,
    typer.Option(parser=duration, metavar="TIME", help="Gather for so long.", show_default="30s"),
]
Repeat = Annotated[
    float | None,
    typer.Option(parser=duration, metavar="TIME", help="Tell again while it lasts.", show_default="never"),
]
Again = Annotated[
    float | None,
    typer.Option(
        parser=duration,
        metavar="TIME",
        help="Of what does not last: tell the same no sooner than that.",
        show_default="15m",
    ),
]


@app.command()
def add(
    name: Name,
    hook: Hook = None,
    title: Title = None,
    filter: Filter = None,
    text: Text = None,
    link: Link = None,
    severity: Severity = None,
    key: Key = None,
    group: Group = None,
    what: What = None,
    channels: Channels = None,
    recovered: Recovered = None,
    window: Window = None,
    repeat: Repeat = None,
    again: Again = None,
    as_json: AsJson = False,
) -> None:
    """Write a route: events of HOOK are told from then on. `ringfence automation triggers` lists hooks and fields."""
    if hook is None or title is None:
        raise UsageMistake("say which events are told (--hook), and how a message is headed (--title)")
    said = _said(
        hook,
        title,
        filter,
        text,
        link,
        severity,
        key,
        group,
        what,
        channels,
        recovered,
        window,
        repeat,
        again,
    )
    _write(name, said, as_json, "is added")


@app.command()
def change(
    name: Name,
    filter: Filter = None,
    title: Title = None,
    text: Text = None,
    link: Link = None,
    severity: Severity = None,
    group: Group = None,
    channels: Channels = None,
    to_all: Annotated[bool, typer.Option("--all-channels", help="To all channels.")] = False,
    window: Window = None,
    repeat: Repeat = None,
    again: Again = None,
    enabled: Annotated[
        bool | None, typer.Option("--on/--off", help="Switch it on or off.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change a route, also a built-in one; what is not said stays."""
    said = _said(
        None, title, filter, text, link, severity, None, group, None, channels, None, window, repeat, again
    )
    if enabled is not None:
        said["enabled"] = enabled
    if to_all:
        said["channels"] = None
    if not said:
        raise UsageMistake("say what to change: see `ringfence notify route change --help`")
    _write(name, {**said, "change": True}, as_json, "is changed")


@app.command()
def remove(name: Name, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove a route that was written here; a built-in one that was changed is again as it came."""
    with HostClient.connect() as host:
        confirm(
            f"Remove the route {name}? Its incidents are told no more, not even that they are over.", yes=yes
        )
        removed = host.request("DELETE", of(ROUTES, name))
    if as_json:
        output.print_json(removed)
    elif removed["comesWithout"]:
        output.say(f"{output.line(name)} is again as it came.")
    else:
        output.say(f"{output.line(name)} is removed.")


def routes(as_json: AsJson = False) -> None:
    """List which events are told to whom."""
    with HostClient.connect() as host:
        found = list(lists.every(host, ROUTES, "routes"))
    if as_json:
        output.print_json({"routes": found})
        return
    output.show_table(
        ("route", "hook", "severity", "told to", "told again", ""),
        (
            (
                output.line(one["name"]),
                output.line(one["hook"]),
                "by event" if "{{" in one["severity"] else output.line(one["severity"]),
                "all" if one["channels"] is None else output.line(", ".join(one["channels"]) or "nobody"),
                f"{one['repeatSeconds'] / 3600:g} h" if one["repeatSeconds"] else "-",
                _state(one),
            )
            for one in found
        ),
    )


def _state(known: dict[str, Any]) -> str:
    if not known["enabled"]:
        return "off"
    if known["idle"]:
        return output.line(known["idle"])
    return "built in" if known["builtIn"] else ""


def _write(name: str, body: dict[str, Any], as_json: bool, done: str) -> None:
    with HostClient.connect() as host:
        made = host.request("PUT", of(ROUTES, name), body=body)
    if as_json:
        output.print_json(made)
    else:
        output.say(f"{output.line(made['name'])} {done}.")


def _said(
    hook: str | None,
    title: str | None,
    filter: str | None,
    text: str | None,
    link: str | None,
    severity: str | None,
    key: list[str] | None,
    group: str | None,
    what: str | None,
    channels: list[str] | None,
    recovered: list[str] | None,
    window: float | None,
    repeat: float | None,
    again: float | None,
) -> dict[str, Any]:
    """What was said, in the API's words."""
    values = {
        "hook": hook,
        "title": title,
        "filter": filter,
        "text": text,
        "link": link,
        "severity": severity,
        "key": key or None,
        "group": group,
        "what": what,
        "channels": channels or None,
        "recoveries": [_recovery(one) for one in recovered or ()] or None,
        "windowSeconds": window,
        "repeatSeconds": repeat,
        "againSeconds": again,
    }
    return {field: value for field, value in values.items() if value is not None}


def _recovery(text: str) -> dict[str, str]:
    hook, _, filter = text.partition("=")
    return {"hook": hook.strip(), "filter": filter.strip() or "true"}
