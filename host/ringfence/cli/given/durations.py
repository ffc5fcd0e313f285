"""Spans of time as options of commands: `90s`, `1h30m`, `30d`; and plain seconds where a span is meant anyway."""

from __future__ import annotations

import re

import typer

from ringfence import spans
from ringfence.process.errors import UsageMistake

_SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,6})?", re.ASCII)


def seconds_of(text: str) -> int:
    """The whole seconds of a span, whose unit must be said.

    Raises:
        UsageMistake: if it is none, or less than one.
    """
    try:
        seconds = int(spans.seconds_of(text))
    except ValueError as error:
        raise UsageMistake(f"{text!r} {error}") from None
    if not seconds:
        raise UsageMistake(f"{text!r} must be {spans.WHAT}, and a second at least")
    return seconds


def duration(text: str) -> float:
    """The seconds of a span; a number alone is seconds, and may have a fraction. For `typer.Option(parser=…)`.

    Raises:
        typer.BadParameter: if it is none, or nothing.
    """
    try:
        seconds = float(text) if _SECONDS.fullmatch(text.strip()) else spans.seconds_of(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} {error}, or a number of seconds") from None
    if not seconds:
        raise typer.BadParameter(f"{text!r} is nothing: it must be {spans.WHAT}, or a number of seconds")
    return seconds
