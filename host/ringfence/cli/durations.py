"""Lengths of time as people type them: `90s`, `15m`, `12h`, `30d`."""

from __future__ import annotations

import re

from ringfence.process.errors import UsageMistake

_DURATION = re.compile(r"(\d{1,9})\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def seconds_of(text: str) -> int:
    """The seconds of a duration.

    Raises:
        UsageMistake: if it is none, or nothing.
    """
    found = _DURATION.fullmatch(text.strip())
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not seconds:
        raise UsageMistake(
            f"{text!r} is not a duration: write a number and s, m, h, d or w, such as 12h or 30d"
        )
    return seconds
