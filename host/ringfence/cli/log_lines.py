"""Lines of kept logs: what each says, and which are wanted. Pure."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ringfence.process.logs import LEVELS

EARLIEST = dt.datetime.min.replace(tzinfo=dt.UTC)
_PRIORITIES = {"0": "error", "1": "error", "2": "error", "3": "error", "4": "warning", "7": "debug"}
"""Of syslog(3), as levels."""


@dataclass(frozen=True, slots=True)
class Line:
    """One event of a log. What was written as text has nothing but that."""

    program: str
    at: dt.datetime
    level: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines are wanted."""

    level: str | None = None
    since: dt.datetime | None = None
    run: str | None = None
    request: str | None = None

    def has(self, line: Line) -> bool:
        """Whether the line is one of them. Pure."""
        return (
            (self.level is None or LEVELS.get(line.level, 0) >= LEVELS[self.level])
            and (self.since is None or line.at >= self.since)
            and (self.run is None or self.run in (line.fields.get("run_id"), line.fields.get("run")))
            and (self.request is None or line.fields.get("request_id") == self.request)
        )


def parsed(program: str, text: str, last: dt.datetime) -> Line:
    """A line of JSON; or one of text, which is of the time of the line before it."""
    fields: object = None
    with contextlib.suppress(ValueError):
        fields = json.loads(text)
    if not isinstance(fields, dict):
        return Line(program, last, "info", {"event": text.rstrip("\n")})
    at = last
    with contextlib.suppress(ValueError):
        told = dt.datetime.fromisoformat(str(fields.get("timestamp")))
        at = told if told.tzinfo else told.replace(tzinfo=dt.UTC)
    return Line(program, at, str(fields.get("level", "info")), fields)


def of_journal(program: str, text: str) -> tuple[Line, str] | None:
    """A line of the journal, as journalctl(1) writes it with `--output=json`, and its cursor; None if it is none."""
    try:
        entry = json.loads(text)
        at = dt.datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / 1e6, dt.UTC)
        message, cursor = entry["MESSAGE"], str(entry["__CURSOR"])
        if isinstance(message, list):  # of bytes, where it is not UTF-8
            message = bytes(message).decode(errors="replace")
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    line = parsed(program, str(message), at)
    level = line.level if "level" in line.fields else _PRIORITIES.get(str(entry.get("PRIORITY")), "info")
    return Line(program, at, level, line.fields), cursor
