"""`ringfence events`: what happened, what a worker group failed at, and trying that again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

import typer

from ringfence.cli import lists, output
from ringfence.cli.address import NoHost
from ringfence.cli.client import ApiError, HostClient, NoAnswer
from ringfence.cli.completing import names_from
from ringfence.cli.options import AsJson
from ringfence.process.errors import CliError, UsageMistake

EVENTS = "/api/host/events"
WAIT_SECONDS = 20
RETRY_SECONDS = 1.0
"""How long to wait for a host that is away before it is looked for again."""

app = typer.Typer(
    help="Look at the event log of a running host, and replay what failed.", no_args_is_help=True
)


@app.command()
def tail(
    stream: Annotated[
        str | None,
        typer.Option(
            help="Show only this stream, such as sandbox-policy.",
            autocompletion=names_from(EVENTS, "events", "stream"),
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=500, help="How many of the last events to show first.")
    ] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep following until interrupted.")] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            callback=output.tell_machines,
            help="Print JSON: one document, or with --follow one line per event, and a last one for what ended it.",
        ),
    ] = False,
) -> None:
    """Show the last events. What is in one is shown only if the token holds the rule that its hook names.

    With --follow, a host that is restarted is waited for, and nothing is lost or shown twice.
    """
    with HostClient.connect() as host:
        params: dict[str, str | int] = {"limit": limit} | ({"stream": stream} if stream else {})
        events = host.request("GET", EVENTS, params=params)["events"]
        if as_json and not follow:
            output.print_json({"events": events})
            return
    _show(events, as_json)
    if follow:
        for batch in _following(stream, events[-1]["position"] if events else 0):
            _show(batch, as_json)


@app.command()
def failed(as_json: AsJson = False) -> None:
    """List the events that a worker group has given up on, and what could not be written at all, and why."""
    with HostClient.connect() as host:
        answer: dict[str, Any] = {"failed": []}
        for part in lists.pages(host, f"{EVENTS}/failed"):
            answer = {**part, "failed": [*answer["failed"], *part["failed"]]}
    if as_json:
        output.print_json(answer)
        return
    _show_set_aside(answer.get("setAside", []))  # an older host does not tell of it
    if not answer["failed"]:
        output.say("No event has been set aside.")
        return
    output.show_table(
        ("id", "group", "event", "tries", "failed", "error", "state"),
        (
            (
                str(one["id"]),
                output.line(f"{one['plugin']}/{one['workerGroup']}"),
                output.line(f"{one['hook']} at {one['position']}"),
                str(one["attempts"]),
                output.ago(one["failedAt"]),
                output.line(one["error"]),
                "waiting to be replayed" if one["replaying"] else "",
            )
            for one in answer["failed"]
        ),
    )


def _show_set_aside(found: list[dict[str, Any]]) -> None:
    if found:
        output.say("These could not be written, and were set aside:")
        output.show_table(
            ("plugin", "from", "what", "when", "error"),
            (
                (
                    output.line(one["plugin"]),
                    output.line(one["origin"]),
                    output.line(one["what"]),
                    output.ago(one["setAsideAt"]),
                    output.line(one["error"]),
                )
                for one in found
            ),
        )


@app.command()
def replay(
    ids: Annotated[
        list[int] | None,
        typer.Argument(
            metavar="ID...",
            help="Ids of failed events, as `events failed` lists them.",
            autocompletion=names_from(f"{EVENTS}/failed", "failed", "id"),
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every failed event.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have failed events tried once more; one that fails again is listed again."""
    if bool(ids) == everything:
        raise UsageMistake(
            "name the failed events to replay, or --all", hint="`ringfence events failed` lists them."
        )
    with HostClient.connect() as host:
        body: dict[str, Any] = {"all": True} if everything else {"ids": ids}
        answer = host.request("POST", f"{EVENTS}/replay", body=body)
    if as_json:
        output.print_json(answer)
        return
    count = len(answer["replaying"])
    output.say(
        "There is no failed event to replay."
        if not count
        else (
            f"The instances that serve their worker groups will try {count} failed "
            f"{'event' if count == 1 else 'events'} again."
        )
    )


def _following(stream: str | None, after: int) -> Iterator[list[dict[str, Any]]]:
    """The events after a position, as they come; a host that goes away is waited for, and may come back elsewhere."""
    away = False
    while True:
        try:
            with HostClient.connect() as host:
                _check_not_set_back(host, after)
                if away:
                    output.note("The host is back.", style=output.GOOD)
                    away = False
                for batch in _batches(host, stream, after):
                    yield batch
                    after = batch[-1]["position"]
        except (NoHost, NoAnswer, ApiError) as error:
            if isinstance(error, ApiError) and error.status < 500:
                raise
            if not away:
                output.note(f"{output.line(error.message)}; reconnecting …", style=output.WARN)
                away = True
            time.sleep(RETRY_SECONDS)


def _check_not_set_back(host: HostClient, after: int) -> None:
    """Raise `CliError` when the log ends before what was shown of it: following it would show nothing for long."""
    newest = host.request("GET", EVENTS, params={"limit": 1})["events"]
    if (last := newest[-1]["position"] if newest else 0) < after:
        raise CliError(
            f"the event log ends at position {last}, but was shown up to {after}: this is another database, or it has "
            "been set back",
            hint="Start the command again to follow this one.",
        )


def _batches(host: HostClient, stream: str | None, after: int) -> Iterator[list[dict[str, Any]]]:
    """The events after a position from one host, for as long as it answers."""
    while True:
        params: dict[str, str | int] = {"after": after, "wait": WAIT_SECONDS} | (
            {"stream": stream} if stream else {}
        )
        events = host.request("GET", EVENTS, params=params, timeout=WAIT_SECONDS * 2)["events"]
        if events:
            yield events
            after = events[-1]["position"]
        else:
            # Nothing comes: because there is nothing, or because the host's database was set back under it.
            _check_not_set_back(host, after)


def _show(events: Iterable[Mapping[str, Any]], as_json: bool) -> None:
    for event in events:
        if as_json:
            output.print_entry(event)
        else:
            output.say(_text(event))


def _text(event: Mapping[str, Any]) -> str:
    by = f" by {output.line(event['actor'])}" if event["actor"] else ""
    why = f": {output.line(event['reason'])}" if event["reason"] else ""
    what = "" if event["payloadWithheld"] else f" {json.dumps(event['payload'], ensure_ascii=True)}"
    where = output.line(f"{event['stream']}@{event['version']}")
    return f"{event['position']}  {event['occurredAt']}  {where}  {output.line(event['hook'])}{by}{why}{what}"
