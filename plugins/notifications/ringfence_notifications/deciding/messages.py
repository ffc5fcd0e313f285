"""What a message says: the words for what is told, of one incident and of many."""

from __future__ import annotations

import datetime as dt
import enum
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from ringfence_notifications.deciding.tellings import Held, Telling
from ringfence_notifications.severity import Severity

MOST_LISTED = 20
"""How many incidents a message names; the others are counted."""
MAX_TITLE = 200
MAX_TEXT = 4000
MAX_LINE = 300


class Kind(enum.StrEnum):
    """What is told of an incident."""

    FAILED = "failed"
    WORSE = "worse"
    STILL = "still"
    RECOVERED = "recovered"
    HAPPENED = "happened"
    FLAPS = "flaps"
    PASSED = "passed"


@dataclass(frozen=True, slots=True)
class News:
    """One thing to be told. `what` is what the incidents of its route are called, in the plural."""

    id: Hashable
    kind: Kind
    telling: Telling
    route: str
    what: str

    @property
    def severity(self) -> Severity:
        """How bad it is; the end of something is as important as it was."""
        telling = self.telling
        return max(telling.severity, telling.told or telling.severity, key=lambda one: one.rank)


@dataclass(frozen=True, slots=True)
class Draft:
    """A message to be sent.

    `told` says what of which incident; `route` and `kind` are None where it tells of several. `held`: why it was held
    back, if it was.
    """

    route: str | None
    kind: Kind | None
    severity: Severity
    title: str
    text: str
    link: str | None
    told: tuple[tuple[Hashable, Kind], ...]
    events: int
    held: Held | None = None


def draft(news: Sequence[News], now: dt.datetime, *, held: Held | None = None) -> Draft:
    """One message of all of `news`, which has at least one."""
    ordered = sorted(news, key=lambda one: -one.severity.rank)
    kinds = {one.kind for one in ordered}
    routes = {one.route for one in ordered}
    links = {one.telling.link for one in ordered}
    if len(ordered) == 1 and held is None:
        title, text = _headline(ordered[0]), _body(ordered[0], now)
    else:
        title, text = _summary_title(ordered, held), _list(ordered, held)
    return Draft(
        route=routes.pop() if len(routes) == 1 else None,
        kind=kinds.pop() if len(kinds) == 1 else None,
        severity=ordered[0].severity,
        title=_clipped(title, MAX_TITLE),
        text=_clipped(text, MAX_TEXT),
        link=links.pop() if len(links) == 1 else None,
        told=tuple((one.id, one.kind) for one in ordered),
        events=sum(one.telling.events for one in ordered),
        held=held,
    )


_PREFIX = {
    Kind.FAILED: "",
    Kind.WORSE: "Worse: ",
    Kind.STILL: "Still: ",
    Kind.RECOVERED: "Recovered: ",
    Kind.HAPPENED: "",
    Kind.FLAPS: "Changes again and again: ",
    Kind.PASSED: "Over by now: ",
}
_COUNTED = {
    Kind.FAILED: "",
    Kind.WORSE: " worse",
    Kind.STILL: " still",
    Kind.RECOVERED: " recovered",
    Kind.HAPPENED: "",
    Kind.FLAPS: " changing again and again",
    Kind.PASSED: " over by now",
}
_WITH_TEXT = frozenset({Kind.FAILED, Kind.WORSE, Kind.HAPPENED})
"""Of these a list also says the first line of the text."""
_WHY_HELD = {
    Held.QUIET: "In the quiet hours this was held back:",
    Held.LIMIT: "This was held back by the limit of messages an hour:",
}


def _headline(one: News) -> str:
    times = f" (× {one.telling.events})" if one.kind is Kind.HAPPENED and one.telling.events > 1 else ""
    return f"{_PREFIX[one.kind]}{one.telling.title}{times}"


def _body(one: News, now: dt.datetime) -> str:
    telling = one.telling
    lines = [telling.text] if telling.text else []
    if one.kind is Kind.STILL:
        lines.append(f"Since {_moment(telling.since)}.")
    elif one.kind is Kind.RECOVERED:
        lines.append(
            f"It began at {_moment(telling.since)}, and is over after {_lasted(now - telling.since)}."
        )
    elif one.kind is Kind.FLAPS:
        lines.append("You will be told of it again when it has not changed for 15 minutes.")
    return "\n".join(lines)


def _summary_title(ordered: Sequence[News], held: Held | None) -> str:
    counts = Counter((one.what, one.kind) for one in ordered)
    parts = [f"{count} {what}{_COUNTED[kind]}" for (what, kind), count in counts.most_common()]
    return ("Held back: " if held is not None else "") + ", ".join(parts)


def _list(ordered: Sequence[News], held: Held | None) -> str:
    lines = [] if held is None else [_WHY_HELD[held]]
    lines += [f"- {_clipped(_line(one), MAX_LINE)}" for one in ordered[:MOST_LISTED]]
    if (more := len(ordered) - MOST_LISTED) > 0:
        lines.append(f"and {more} more")
    return "\n".join(lines)


def _line(one: News) -> str:
    first = one.telling.text.strip().partition("\n")[0] if one.kind in _WITH_TEXT else ""
    return " ".join(f"{_headline(one)}: {first}".split()) if first else " ".join(_headline(one).split())


def _clipped(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _moment(at: dt.datetime) -> str:
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"


def _lasted(time: dt.timedelta) -> str:
    minutes = int(time.total_seconds() // 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 120:
        return f"{minutes} minute{'s' if minutes != 1 else ''}"
    return f"{minutes // 60} hours" if minutes < 2880 else f"{minutes // 1440} days"
