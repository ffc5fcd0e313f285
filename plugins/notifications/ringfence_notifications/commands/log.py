"""What was told, what could not be, and what lasts."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import typer
from ringfence.cli import AsJson, HostClient, UsageMistake, names_from, output

from ringfence_notifications.commands.addresses import CHANNEL_NAMES, INCIDENTS, MESSAGES, SUPPRESSED, of
from ringfence_notifications.words import WHY

MOST_SHOWN = 50


def incidents(
    every: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what lasts, and who was told."""
    with HostClient.connect() as host:
        found = _newest(host, INCIDENTS, "incidents", {} if every else {"lasting": "true"})
    if as_json:
        output.print_json({"incidents": found})
        return
    if not found:
        output.say("No incident lasts." if not every else "There were no incidents.")
        return
    output.show_table(
        ("incident", "severity", "since", "what", "told", ""),
        (
            (
                str(one["id"]),
                one["severity"],
                output.ago(one["beganAt"]),
                output.line(one["title"]),
                output.line(", ".join(one["told"]) or "nobody"),
                _state(one),
            )
            for one in found
        ),
    )


def ack(
    incident: Annotated[
        str,
        typer.Argument(
            metavar="NUMBER",
            help="Number of the incident.",
            autocompletion=names_from(INCIDENTS, "incidents", "id"),
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Say that somebody sees to an incident: nobody is reminded of it any more."""
    if not (incident.isascii() and incident.isdigit() and int(incident[:20])):
        raise UsageMistake(f"{incident} is no number of an incident: see `ringfence notify incidents`")
    with HostClient.connect() as host:
        known = host.request("POST", f"{of(INCIDENTS, incident)}/ack")
    if as_json:
        output.print_json(known)
    else:
        output.say(f"{output.line(known['title'])}: nobody is reminded of it. That it is over will be told.")


def failed(as_json: AsJson = False) -> None:
    """List messages that could not be delivered, and are not tried again by themselves."""
    with HostClient.connect() as host:
        found = _newest(host, MESSAGES, "messages", {"status": "failed"})
    if as_json:
        output.print_json({"messages": found})
        return
    if not found:
        output.say("All messages were delivered, or are being tried.")
        return
    output.show_table(
        ("message", "channel", "when", "title", "attempts", "error"),
        (
            (
                output.line(one["id"]),
                output.line(one["channel"]),
                output.ago(one["createdAt"]),
                output.line(one["title"]),
                str(one["attempts"]),
                output.line(one["error"] or "-"),
            )
            for one in found
        ),
    )
    output.note("Try one again: ringfence notify retry MESSAGE; or all of them: --all")


def retry(
    message: Annotated[
        str | None,
        typer.Argument(
            help="Id of the message.",
            autocompletion=names_from(f"{MESSAGES}?status=failed", "messages", "id"),
            show_default=False,
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All that have failed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have a message that could not be delivered sent again."""
    if (message is None) is not every:
        raise UsageMistake("say which message, or --all")
    if message is not None and not _is_id(message):
        raise UsageMistake(f"{message} is no id of a message: see `ringfence notify failed`")
    with HostClient.connect() as host:
        path = f"{MESSAGES}/retry" if message is None else f"{of(MESSAGES, message)}/retry"
        answer = host.request("POST", path)
    if as_json:
        output.print_json(answer)
    else:
        count = len(answer["retried"])
        output.say(f"{count} {'message is' if count == 1 else 'messages are'} sent again.")


def log(
    channel: Annotated[
        str | None,
        typer.Option(
            metavar="CHANNEL",
            help="Of this channel.",
            autocompletion=CHANNEL_NAMES,
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest messages, and how many events of the last week are in none, with why."""
    with HostClient.connect() as host:
        found = _newest(host, MESSAGES, "messages", {} if channel is None else {"channel": channel})
        lost = host.request("GET", SUPPRESSED)["suppressed"]
    lost = [one for one in lost if channel is None or one["channel"] in {channel, None}]
    if as_json:
        output.print_json({"messages": found, "suppressed": lost})
        return
    if not found:
        output.say("No messages yet.")
    else:
        output.show_table(
            ("when", "channel", "severity", "title", "status"),
            (
                (
                    output.ago(one["createdAt"]),
                    output.line(one["channel"]),
                    one["severity"],
                    output.line(one["title"]),
                    _status(one),
                )
                for one in found
            ),
        )
    for one in lost:
        to = "" if one["channel"] is None else f" to {one['channel']}"
        events = "event was" if one["events"] == 1 else "events were"
        output.note(
            output.line(
                f"{one['events']} {events} not told{to} ({one['route']}): {WHY.get(one['why'], one['why'])}"
            )
        )


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _newest(host: HostClient, path: str, entries: str, params: dict[str, str]) -> list[dict[str, Any]]:
    page = host.request("GET", path, params={**params, "limit": str(MOST_SHOWN)})
    found: list[dict[str, Any]] = page[entries]
    return found


def _state(incident: dict[str, Any]) -> str:
    if not incident["lasts"]:
        return "over"
    if incident["acknowledgedBy"]:
        return output.line(f"seen by {incident['acknowledgedBy']}")
    return ""


def _status(message: dict[str, Any]) -> str:
    status = message["status"]
    if status == "sent" and message["maybeTwice"]:
        return "sent, maybe twice"
    if status == "pending" and message["error"]:
        return output.line(f"tried {message['attempts']} times: {message['error']}")
    return str(status)
