"""`ringfence automation try`: what an automation would do with an event, or that it does it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from ringfence.cli import AsJson, HostClient, UsageMistake, output, read_object

from ringfence_automations.commands.api import Name, ask
from ringfence_automations.commands.running import Inputs, inputs_of

INDENT = "    "


def try_(
    name: Name,
    event: Annotated[
        int | None,
        typer.Option(
            metavar="POSITION",
            min=1,
            help="With this event of the log (`ringfence events`).",
            show_default=False,
        ),
    ] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="With an event that is made up (the default).")
    ] = False,
    payload: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="With an event that tells this JSON; - is standard input.",
            show_default=False,
        ),
    ] = None,
    trigger: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Of the automation's N-th trigger, and not of its first.",
            show_default=False,
        ),
    ] = None,
    given: Inputs = None,
    for_real: Annotated[bool, typer.Option("--for-real", help="Have it done, if it would start.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what an automation would do with an event. Nothing is done without --for-real."""
    if sum((event is not None, sample, payload is not None)) > 1:
        raise UsageMistake("--event, --sample and --payload exclude one another")
    if event is not None and trigger is not None:
        raise UsageMistake("--event says which hook it is of, so that --trigger does not go with it")
    body: dict[str, Any] = {"forReal": for_real}
    if event is not None:
        body["event"] = event
    if trigger is not None:
        body["trigger"] = trigger
    if payload is not None:
        body["payload"] = read_object(payload, sys.stdin.buffer)
    with HostClient.connect() as host:
        body["inputs"] = inputs_of(host, name, given)
        told = ask(host, "POST", name, "try", body=body)
    if as_json:
        output.print_json(told)
        return
    _show(told, for_real)


def _show(told: Mapping[str, Any], for_real: bool) -> None:
    output.say(f"event: {_json(told['event'])}")
    if told["failure"]:
        output.say(output.line(told["failure"]), style=output.BAD)
    elif not told["matches"]:
        output.say("No trigger of the automation matches this event.", style=output.WARN)
        output.note(
            "Try it with an event that has happened: --event POSITION (`ringfence events tail` shows them), "
            "or with your own: --payload FILE."
        )
    elif told["matchedBy"] is not None:
        output.say(f"trigger {told['matchedBy']} matches.", style=output.GOOD)
    for one in told["conditions"]:
        output.say(f"condition {_expression(one)}")
    for line in _steps(told["steps"], ""):
        output.say(line)
    if told.get("run"):
        output.say(
            f"It is done: run {output.line(told['run'])} "
            f"(`ringfence automation logs {output.line(told['run'])} --follow`).",
            style=output.GOOD,
        )
    elif told.get("skipped"):
        output.say(f"It is not done: {output.line(told['skipped'])}.", style=output.WARN)
    elif not told["starts"]:
        output.say("It would not start.", style=output.WARN)
    elif not for_real:
        output.say("Nothing was done. With --for-real, it is.")


def _steps(steps: Iterable[Mapping[str, Any]], indent: str) -> Iterable[str]:
    for step in steps:
        on = f" on {', '.join(step['on']) or 'no satellite'}" if "on" in step else ""
        yield output.line(f"{indent}{step['path']}: {step['kind']}{on}")
        inner = indent + INDENT
        if "when" in step:
            yield f"{inner}when {_expression(step['when'])}"
        if step.get("skipped"):
            yield f"{inner}left out"
        if "error" in step:
            yield output.line(f"{inner}would fail: {step['error']}")
        for name, value in (step.get("does") or {}).items():
            shown = _expression(value) if isinstance(value, dict) and "text" in value else _json(value)
            lines = shown.splitlines() or [""]
            yield f"{inner}{output.line(name)}: {lines[0]}"
            yield from (f"{inner}{INDENT}{line}" for line in lines[1:])
        if step.get("later"):
            yield output.line(f"{inner}(known when the run is there: {', '.join(step['later'])})")
        for number, steps_within in enumerate(step.get("branches", ())):
            yield f"{inner}branch {number + 1}"
            yield from _steps(steps_within, inner + INDENT)
        for steps_within in step.get("rounds", ()):
            yield from _steps(steps_within, inner)
        for choice in step.get("choices", ()):
            yield (
                f"{inner}otherwise"
                if choice["when"] is None
                else f"{inner}when {_expression(choice['when'])}"
            )
            yield from _steps(choice["steps"], inner + INDENT)


def _expression(told: Mapping[str, Any]) -> str:
    if "error" in told:
        return output.line(f"{told['text']}: fails: {told['error']}")
    if "later" in told:
        return output.line(f"{told['text']}: known when the run has {told['later']}")
    return output.line(f"{told['text']}: {_json(told['value'])}")


def _json(value: Any) -> str:
    if isinstance(value, str):
        return output.plain(value)
    return output.line(json.dumps(value, ensure_ascii=False))
