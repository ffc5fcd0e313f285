"""`ringfence policy suggest`: what the policy would have to allow, by what checks have tried."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from ringfence.cli import AsJson, CliError, HostClient, UsageMistake, Yes, confirm, duration, output
from ringfence_script_packages.client import change_policy

from ringfence_health_checks.commands.api import CHECK_NAMES, change, find

SUGGESTIONS = "/api/health-checks/suggestions"
MOST_NAMED = 3


def suggest(
    check: Annotated[
        str | None,
        typer.Option(
            "--check",
            metavar="NAME-OR-ID",
            help="What this check has tried, and what it needs.",
            autocompletion=CHECK_NAMES,
        ),
    ] = None,
    since: Annotated[
        float,
        typer.Option(parser=duration, metavar="TIME", help="What was tried in that time: 12h, 7d."),
    ] = "7d",  # type: ignore[assignment]  # the parser is given the default, too
    apply: Annotated[
        bool, typer.Option("--apply", help="Put it into the policy; shows what that would do, and asks.")
    ] = False,
    apply_needs: Annotated[
        bool,
        typer.Option(
            "--apply-needs",
            help="With --check: have the check say that it needs this of the network, and no more.",
        ),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Show what the policy would have to allow for checks to reach what was refused, by whom and how often.

    It is what scripts have asked for: whether they should have it is for you to say.
    """
    if apply_needs and (check is None or apply):
        raise UsageMistake("--apply-needs is for one --check, and comes after --apply if both are wanted")
    with HostClient.connect() as host:
        params = {"since": (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=since)).isoformat()}
        one = None if check is None else find(host, check)
        if one is not None:
            params["check"] = one["id"]
        found = host.request("GET", SUGGESTIONS, params=params)
        if as_json and not apply and not apply_needs:
            output.print_json(found)
            return
        if not as_json:
            _show(found, of_one=check is not None, applies=apply or apply_needs)
        if apply:
            _apply(host, found, yes, as_json)
        if apply_needs and one is not None:
            _apply_needs(host, one, found, yes, as_json)


def _apply(host: HostClient, found: Mapping[str, Any], yes: bool, as_json: bool) -> None:
    if found["patch"] is None:
        raise CliError("there is nothing to apply: the policy allows all that can be suggested")
    change_policy(
        host,
        found["patch"],
        reason="ringfence policy suggest",
        expect=found["revision"],
        yes=yes,
        as_json=as_json,
    )


def _apply_needs(
    host: HostClient, check: Mapping[str, Any], found: Mapping[str, Any], yes: bool, as_json: bool
) -> None:
    """Add what the check has tried to what it says that it needs, or have it say so for the first time."""
    tried = [entry for one in found["needs"] for entry in one["needs"]["network"]]
    needs = check.get("needs") or {}
    network = list(dict.fromkeys([*needs.get("network", ()), *tried]))
    confirm(f"Have {check['name']} reach {', '.join(network) or 'nothing'}, and nothing else?", yes=yes)
    change(host, check, {"needs": {**needs, "network": network}}, as_json, "says what it needs now")


def _show(found: Mapping[str, Any], *, of_one: bool, applies: bool) -> None:
    if found["allow"]:
        output.show_table(
            ("network.allow", "tried", "by", "last"),
            [(_entry(one), _times(one["tries"]), _askers(one), _last(one)) for one in found["allow"]],
        )
        if any(one["guessed"] for one in found["allow"]):
            output.note(
                "? The name was refused when it was looked up, so nobody knows for which port: it is a guess."
            )
        if found["more"]:
            output.say(f"… and {found['more']} more.")
        if not applies:
            output.note(
                "Put these into the policy with --apply, or one by one with `ringfence policy patch`."
            )
    else:
        output.say("The policy allows all that checks have tried and that can be suggested.")
    if of_one:
        for one in found["needs"]:
            entries = output.line(", ".join(one["needs"]["network"])) or "nothing"
            output.say(f"{output.line(one['check']['name'])} needs, of the network: {entries}")
    if found["unfit"]:
        output.show_table(
            ("not suggested", "by", "because"),
            [(_unfit(one), _askers(one), output.line(one["why"])) for one in found["unfit"]],
        )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _entry(one: Mapping[str, Any]) -> str:
    return output.line(one["entry"]) + (" ?" if one["guessed"] else "")


def _unfit(one: Mapping[str, Any]) -> str:
    port = f" {one['port']}" if one["port"] else ""
    return f"{output.line(one['host'])} {output.line(one['protocol'])}{port}"


def _askers(one: Mapping[str, Any]) -> str:
    named = [f"{output.line(each['name'])} ({each['tries']})" for each in one["checks"][:MOST_NAMED]]
    more = one["checkCount"] - len(named)
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def _last(one: Mapping[str, Any]) -> str:
    return output.ago(max((each["lastAt"] for each in one["checks"]), default=None))
