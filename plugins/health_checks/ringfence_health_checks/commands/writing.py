"""`ringfence check create` and `update`: what a check runs, where and how often."""

from __future__ import annotations

import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from ringfence.cli import (
    AsJson,
    CliError,
    HostClient,
    Kind,
    UsageMistake,
    duration,
    names_here,
    output,
)
from ringfence_satellite.client import LABELS
from ringfence_satellite.client import find as find_satellite

from ringfence_health_checks.commands import tried as showing
from ringfence_health_checks.commands.api import CHECKS, CORE, PLACES, NameOrId, change, find, when
from ringfence_health_checks.commands.option_groups import with_groups
from ringfence_health_checks.commands.trying import elsewhere
from ringfence_health_checks.commands.work import (
    DEFAULT_TIMEOUT_SECONDS,
    GivenAnew,
    GivenOrReady,
    Timeout,
    task_of,
    what_runs,
)

if TYPE_CHECKING:
    from ringfence.scripts import Task

DEFAULT_INTERVAL_SECONDS = 60.0

On = Annotated[
    list[str] | None,
    typer.Option(
        "--on",
        metavar="PLACE",
        help="A satellite's name or id, or core; repeat for more.",
        autocompletion=PLACES,
    ),
]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="TAG",
        help="All satellites with this tag; repeat for more.",
        autocompletion=LABELS,
    ),
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
        "--timezone",
        metavar="ZONE",
        help="Whose clock --cron goes by; at first UTC.",
        autocompletion=names_here(zoneinfo.available_timezones),
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Schedule:
    """The options that say when a check runs and how long a run may take; None for what is not said."""

    every: Every = None
    cron: CronTimes = None
    timezone: TimeZone = None
    timeout: Timeout = None

    def to_wire(self, *, default: float | None) -> dict[str, Any]:
        """When it runs, as the host takes it. A time zone alone is for the times that it has already."""
        if self.every is not None and (self.cron is not None or self.timezone is not None):
            raise UsageMistake(
                "--every contradicts --cron and --timezone: a check has either an interval or times"
            )
        if self.timezone is not None and self.cron is None and default is not None:
            raise UsageMistake("--timezone needs --cron, whose times are by that clock")
        given = {"intervalSeconds": self.every, "cron": self.cron, "timezone": self.timezone}
        found = {name: value for name, value in given.items() if value is not None}
        return found or ({} if default is None else {"intervalSeconds": default})


@dataclass(frozen=True)
class Places:
    """The options that say where a check runs."""

    on: On = None
    tags: Tags = None
    selector: Selector = None

    @property
    def are_named(self) -> bool:
        """Whether they say anything."""
        return bool(self.on or self.tags or self.selector)

    def to_wire(self, host: HostClient) -> dict[str, Any]:
        """As the host takes it. Raises `CliError` for a satellite that there is not."""
        on = self.on or []
        return {
            "core": CORE in on,
            "satellites": [find_satellite(host, one)["id"] for one in on if one != CORE],
            "tags": list(self.tags or ()),
            **({} if self.selector is None else {"selector": self.selector}),
        }


@dataclass(frozen=True)
class GivenInstead(GivenOrReady):
    """What a check is to run instead of what it runs."""

    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Another script; - reads it from standard input.")
    ] = None
    code: Annotated[str | None, typer.Option("-c", metavar="CODE", help="Another script itself.")] = None
    kind: Annotated[Kind | None, typer.Option(help="Of another kind.", show_default=False)] = None


@with_groups
def create(
    name: Annotated[str, typer.Argument(help="A name for it.")],
    given: GivenAnew,
    system: Annotated[
        str | None, typer.Option(help="What it looks at.", show_default="the check's name")
    ] = None,
    *,
    schedule: Schedule,
    places: Places,
    tried: Annotated[bool, typer.Option("--try/--no-try", help="Try it once, in one of its places.")] = True,
    as_json: AsJson = False,
) -> None:
    """Create a check. It runs from now on, in each place that is named (by default the core).

    FILE is a script; or a program under /usr, and what follows it is given to it: for options, this command's long ones
    come first. It ends with one try, whose outcome changes neither the check nor the exit status.
    """
    given.check_names_work("create")
    work = given.to_wire()
    understood = what_runs(task_of(work))
    with HostClient.connect() as host:
        body = {
            **work,
            "name": name,
            "system": system or name,
            **schedule.to_wire(default=DEFAULT_INTERVAL_SECONDS),
            "timeoutSeconds": DEFAULT_TIMEOUT_SECONDS if schedule.timeout is None else schedule.timeout,
            "runsOn": (places if places.are_named else Places(on=[CORE])).to_wire(host),
        }
        made = host.request("POST", CHECKS, body=body)
        if not as_json:
            output.say(output.line(f"{made['name']} runs {when(made)}."))
            output.say(output.line(f"It is {understood}."))
        found = _tried(host, body) if tried else None
    if not tried and (told := _told(task_of(work))) is not None:
        output.note(f"Unless the policy shows it: {output.line(told)}", style=output.WARN)
    if as_json:
        output.print_json(made if found is None else {**made, "tried": found})
    elif found is not None:
        output.say(f"\ntried on {output.line(found.get('on', CORE))}", style=output.DIM)
        showing.show(found)


_TIMES = ("intervalSeconds", "cron", "timezone")


def _told(task: Task) -> str | None:
    """What of the host a script or a program looks at, as far as that can be known before it runs."""
    from ringfence.scripts import ScriptRequest
    from ringfence.scripts.choosing.choice import NotRunnable, choose
    from ringfence.scripts.running.host_tools import NOTHING
    from ringfence.scripts.running.told_in_text import host_tools_in, told_of
    from ringfence.scripts.running.told_program import untold

    try:
        choice = choose(ScriptRequest(task.kind, task.script, command=task.command, name=task.file_name))
    except NotRunnable:
        return None
    if (reason := untold(choice, task.args, NOTHING)) is not None:
        return f"it will be unknown, since {reason}"
    return told_of(host_tools_in(task.script or ""), NOTHING)


def _tried(host: HostClient, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """What came of one try of a check that was created; None, with a note, if it cannot be tried."""
    try:
        return elsewhere(host, {name: value for name, value in body.items() if name not in _TIMES})
    except CliError as error:
        output.note(f"It was not tried: {output.line(error.message)}", style=output.WARN)
        return None


@with_groups
def update(
    check: NameOrId,
    given: GivenInstead,
    name: Annotated[str | None, typer.Option(help="Another name.", show_default=False)] = None,
    system: Annotated[str | None, typer.Option(help="What it looks at.", show_default=False)] = None,
    *,
    schedule: Schedule,
    places: Places,
    no_secrets: Annotated[bool, typer.Option("--no-secrets", help="Give its runs no secrets.")] = False,
    no_needs: Annotated[
        bool, typer.Option("--no-needs", help="Do not say what it needs: it gets all that the policy allows.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Change a check; what is not named stays.

    --on, --tag and --selector together say anew where it runs; --env, --assert, --secret, --needs (with --need-network)
    and what follows `--` replace what it had of that. With a FILE the kind is the one that its first line or its suffix
    says, if they say any. With --from it becomes that ready check; if it is one from there already, it gets the script
    that comes along now, and settings that --set does not name stay.
    """
    if given.secrets and no_secrets:
        raise UsageMistake("--secret and --no-secrets contradict one another")
    if no_needs and (given.needs is not None or given.need_network):
        raise UsageMistake("--needs and --no-needs contradict one another")
    wanted = {
        **given.to_wire(keeps_kind=True),
        "name": name,
        "system": system,
        **schedule.to_wire(default=None),
        "timeoutSeconds": schedule.timeout,
        **({"args": []} if given.command else {}),  # what the program is given is in the command
        **({"secrets": []} if no_secrets else {}),
    }
    body: dict[str, Any] = {key: value for key, value in wanted.items() if value is not None}
    if no_needs:
        body["needs"] = None
    if not (body or places.are_named):
        raise UsageMistake("say what to change; see: ringfence check update --help")
    with HostClient.connect() as host:
        found = find(host, check)
        if places.are_named:
            body["runsOn"] = places.to_wire(host)
        change(host, found, given.over(found, body), as_json, "is changed")
