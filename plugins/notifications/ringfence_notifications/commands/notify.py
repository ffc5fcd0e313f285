"""`ringfence notify`: who is told of what, and what was told."""

from __future__ import annotations

import enum
import getpass
import re
import sys
import zoneinfo
from typing import Annotated, Any

import typer
from ringfence.cli import (
    FAILURE,
    AsJson,
    CliError,
    HostClient,
    UsageMistake,
    Yes,
    confirm,
    lists,
    names_here,
    output,
    read_at_most,
)

from ringfence_notifications.commands import log, route
from ringfence_notifications.commands.addresses import CHANNEL_NAMES, CHANNELS, ROUTES, of

LARGEST_ADDRESS = 64 * 1024

app = typer.Typer(
    help="Have people told what happens: by mail, chat or a hundred other ways.", no_args_is_help=True
)
app.add_typer(route.app, name="route")
app.command("routes")(route.routes)
app.command("incidents")(log.incidents)
app.command("ack")(log.ack)
app.command("failed")(log.failed)
app.command("retry")(log.retry)
app.command("log")(log.log)


_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_SETTINGS = ("enabled", "atLeast", "perHour", "quiet")


class Severity(enum.StrEnum):
    """How bad something is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


Channel = Annotated[
    str,
    typer.Argument(
        metavar="CHANNEL",
        help="Name of the channel, such as ops.",
        autocompletion=CHANNEL_NAMES,
    ),
]
Quiet = Annotated[
    str | None,
    typer.Option(
        "--quiet", metavar="FROM-UNTIL", help="Quiet hours, such as 22:00-07:00.", show_default=False
    ),
]
Zone = Annotated[
    str | None,
    typer.Option(
        metavar="ZONE",
        help="By the clocks of this zone, such as Europe/Berlin.",
        autocompletion=names_here(zoneinfo.available_timezones),
        show_default="UTC",
    ),
]
Passes = Annotated[
    Severity | None,
    typer.Option(help="What is as bad as this is told in quiet hours too.", show_default="critical"),
]
AtLeast = Annotated[
    Severity | None, typer.Option(help="Tell only what is as bad as this, or worse.", show_default="info")
]
PerHour = Annotated[
    int | None,
    typer.Option(
        metavar="NUMBER", min=2, max=1000, help="At most so many messages an hour.", show_default="30"
    ),
]


@app.command()
def add(
    channel: Channel,
    address: Annotated[
        str | None,
        typer.Argument(
            help="Where messages go, as Apprise has it. If it is left out, it is asked for, or read from standard "
            "input: then nobody sees it among the machine's processes.",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = None,
    zone: Zone = None,
    passes: Passes = None,
    at_least: AtLeast = None,
    per_hour: PerHour = None,
    as_json: AsJson = False,
) -> None:
    """Add a channel: failing checks, lost satellites and other trouble are told to it from then on.

    One that there is gets a new address, and keeps its settings.

    An address may refer to secrets: 'mailto://user:{{ secrets.MAIL }}@example.org'.
    """
    if not _NAME.fullmatch(channel):
        raise UsageMistake(
            f"{channel} is no name for a channel: it has lower-case letters, digits, - and _, at most 63"
        )
    _settings({}, quiet, zone, passes, at_least, per_hour)
    with HostClient.connect() as host:
        before = next(
            (one for one in lists.every(host, CHANNELS, "channels") if one["name"] == channel), None
        )
        kept = {} if before is None else {name: before[name] for name in _SETTINGS}
        settings = kept | _settings(kept.get("quiet") or {}, quiet, zone, passes, at_least, per_hour)
        body = {"address": address or _asked(channel), "settings": settings}
        made = host.request("PUT", of(CHANNELS, channel), body=body, timeout=90)
        routes = [one for one in lists.every(host, ROUTES, "routes") if _is_told(one, channel)]
    if as_json:
        output.print_json(made)
        return
    done = "is added" if before is None else "has a new address, and its other settings as before"
    output.say(
        f"{output.line(made['name'])} {done}. It is told of: {', '.join(one['what'] for one in routes)}."
    )
    output.note(f"Try it: ringfence notify test {output.line(made['name'])}")


@app.command()
def change(
    channel: Channel,
    quiet: Quiet = None,
    zone: Zone = None,
    passes: Passes = None,
    no_quiet: Annotated[bool, typer.Option("--no-quiet", help="No quiet hours any more.")] = False,
    at_least: AtLeast = None,
    per_hour: PerHour = None,
    enabled: Annotated[
        bool | None, typer.Option("--on/--off", help="Switch it on or off.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change what a channel is told, and when. Its address is changed by `add`."""
    if no_quiet and quiet is not None:
        raise UsageMistake("say --quiet or --no-quiet, and not both")
    with HostClient.connect() as host:
        before = lists.one(host, CHANNELS, "channels", channel, what="channel", how_to_make=_HOW)
        settings = _settings(before.get("quiet") or {}, quiet, zone, passes, at_least, per_hour)
        if no_quiet:
            settings["quiet"] = None
        if enabled is not None:
            settings["enabled"] = enabled
        if not settings:
            raise UsageMistake("say what to change: see `ringfence notify change --help`")
        made = host.request("PATCH", of(CHANNELS, channel), body=settings)
    if as_json:
        output.print_json(made)
    else:
        output.say(f"{output.line(made['name'])} is changed.")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the channels. Of an address only its kind is shown."""
    with HostClient.connect() as host:
        channels = list(lists.every(host, CHANNELS, "channels"))
    if as_json:
        output.print_json({"channels": channels})
        return
    if not channels:
        output.say(f"No channels yet. {_HOW}")
        return
    output.show_table(
        ("channel", "kind", "told", "quiet", "an hour", "last sent", "last error"),
        (
            (
                output.line(one["name"]),
                output.line(f"{one['kind']}://…"),
                f"{one['atLeast']} and worse" if one["enabled"] else "nothing: it is off",
                _quiet_hours(one["quiet"]),
                str(one["perHour"]),
                output.ago(one["sentAt"]) if one["sentAt"] else "-",
                output.line(one["error"]) if one["error"] else "-",
            )
            for one in channels
        ),
    )


@app.command()
def remove(channel: Channel, yes: Yes = False, as_json: AsJson = False) -> None:
    """Remove a channel and forget its address. What it was still to be told is not sent."""
    with HostClient.connect() as host:
        lists.one(host, CHANNELS, "channels", channel, what="channel", how_to_make=_HOW)
        confirm(f"Remove the channel {channel}? Nobody is told by it any more.", yes=yes)
        host.request("DELETE", of(CHANNELS, channel))
    if as_json:
        output.print_json({"removed": channel})
    else:
        output.say(f"{output.line(channel)} is removed.")


@app.command()
def test(channel: Channel, as_json: AsJson = False) -> None:  # noqa: PT028  (no test of ours)
    """Send a message now, and say what came of it."""
    with HostClient.connect() as host:
        told = host.request("POST", f"{of(CHANNELS, channel)}/test", timeout=90)
    if not told["sent"]:
        raise CliError(f"{channel} did not take the message: {told['error']}", exit_code=FAILURE)
    if as_json:
        output.print_json(told)
    else:
        output.say(f"{output.line(channel)} has taken the message. See whether it arrives.")


_HOW = "Add one: ringfence notify add ops 'mailto://user:password@example.org'"


def _settings(
    before: dict[str, Any],
    quiet: str | None,
    zone: str | None,
    passes: Severity | None,
    at_least: Severity | None,
    per_hour: int | None,
) -> dict[str, Any]:
    """What was said of a channel, in the API's words. `before` are its quiet hours as they are."""
    settings: dict[str, Any] = {}
    if quiet is not None or zone is not None or passes is not None:
        begins, _, ends = (quiet or f"{before.get('begins', '')}-{before.get('ends', '')}").partition("-")
        if not (begins and ends):
            raise UsageMistake("say from when until when: --quiet 22:00-07:00")
        if wrong := [one for one in (begins, ends) if not _TIME.fullmatch(one.strip())]:
            raise UsageMistake(f"{wrong[0].strip()} is no time of day: --quiet 22:00-07:00")
        settings["quiet"] = {**before, "begins": begins.strip(), "ends": ends.strip()}
        if zone is not None:
            settings["quiet"]["zone"] = zone
        if passes is not None:
            settings["quiet"]["passes"] = passes.value
    if at_least is not None:
        settings["atLeast"] = at_least.value
    if per_hour is not None:
        settings["perHour"] = per_hour
    return settings


def _is_told(known: dict[str, Any], channel: str) -> bool:
    return (
        known["enabled"] and not known["idle"] and (known["channels"] is None or channel in known["channels"])
    )


def _quiet_hours(quiet: dict[str, Any] | None) -> str:
    if quiet is None:
        return "-"
    return output.line(f"{quiet['begins']}-{quiet['ends']} {quiet['zone']}, but {quiet['passes']}")


def _asked(channel: str) -> str:
    """What is typed, or what is piped in."""
    if sys.stdin.isatty():
        address = ""
        while not address:
            address = getpass.getpass(f"Address of {channel}: ").strip()
        return address
    try:
        address = read_at_most(sys.stdin.buffer, LARGEST_ADDRESS, "the address").decode().strip()
    except UnicodeDecodeError as error:
        raise UsageMistake(f"the address must be UTF-8 text: byte {error.start} is not") from None
    if not address:
        raise UsageMistake(
            f"say where messages go: ringfence notify add {channel} 'mailto://user:password@example.org'"
        )
    return address
