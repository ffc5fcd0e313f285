"""Lengths of time as people type them: `90s`, `15m`, `12h`, `30d`; and plain seconds where a length is meant anyway."""

from __future__ import annotations

import re

import typer

from ringfence.process.errors import UsageMistake

_DURATION = re.compile(r"(\d{1,9})\s*([smhdw])")
_SHORT = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*([smhdw]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def seconds_of(text: str) -> int:
    """The seconds of a duration, whose unit must be said.

    Raises:
        UsageMistake: if it is none, or nothing.
    """
    found = _DURATION.fullmatch(text.strip())
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not seconds:
        raise UsageMistake(f"{text!r} is no duration: write a number and s, m, h, d or w, such as 12h or 30d")
    return seconds


def duration(text: str) -> float:
    """The seconds of a duration; a number alone is seconds, and may have a fraction. For `typer.Option(parser=…)`.

    Raises:
        typer.BadParameter: if it is none, or nothing.
    """
    found = _SHORT.fullmatch(text.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not seconds:
        raise typer.BadParameter(
            f"{text!r} is no duration: write such as 30s, 5m, 1h or 1d, or a number of seconds"
        )
    return seconds
