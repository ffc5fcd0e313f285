"""Which messages a channel gets of what is due, within its quiet hours and its limit.

What belongs together is one message. What is not sent is held, and told in a summary as soon as one may be sent; what
is critical may use what is left when everything else has to wait.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from ringfence_notifications.deciding.allowance import Allowance
from ringfence_notifications.deciding.messages import Draft, Kind, News, draft
from ringfence_notifications.deciding.quiet_hours import QuietHours
from ringfence_notifications.deciding.tellings import STEADY, Held, Pending, Telling, Timing, remind_at
from ringfence_notifications.severity import Severity


@dataclass(frozen=True, slots=True)
class Due:
    """A telling that is due, with what its route says. `id` is whatever the caller knows it by."""

    id: Hashable
    telling: Telling
    route: str
    group: str
    what: str
    timing: Timing


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for a channel."""

    allowance: Allowance
    quiet: QuietHours | None = None


@dataclass(frozen=True, slots=True)
class Composition:
    """The messages, what is left of the allowance, and what each telling has become. All that were given are in it."""

    drafts: Sequence[Draft]
    allowance: Allowance
    tellings: Sequence[tuple[Hashable, Telling]]


@dataclass(frozen=True, slots=True)
class _Item:
    due: Due
    news: News

    @property
    def is_critical(self) -> bool:
        return self.news.severity is Severity.CRITICAL


def compose(due: Sequence[Due], limits: Limits, now: dt.datetime) -> Composition:
    """Make the messages of what is due by `now`, and of nothing else."""
    allowance = limits.allowance.now(now)
    quiet_until = None if limits.quiet is None else limits.quiet.until(now)
    after: list[tuple[Hashable, Telling]] = []
    waiting: list[_Item] = []
    for given in due:
        one = replace(given, telling=_settled(given.telling, now))
        kind = _kind(one.telling)
        if kind is None:
            after.append((one.id, replace(one.telling, due_at=None, held=None)))
            continue
        item = _Item(one, News(one.id, kind, one.telling, one.route, one.what))
        if quiet_until is not None and limits.quiet is not None and limits.quiet.hold(item.news.severity):
            after.append((one.id, replace(one.telling, held=Held.QUIET, due_at=quiet_until)))
        else:
            waiting.append(item)
    apart, together, held = _share(waiting, allowance)
    drafts = [draft([item.news for item in group], now) for group in apart]
    if together:
        why = Held.QUIET if any(item.due.telling.held is Held.QUIET for item in together) else Held.LIMIT
        drafts.append(draft([item.news for item in together], now, held=why))
    for item in (*(item for group in apart for item in group), *together):
        after.append((item.due.id, _told(item, now)))
    allowance = allowance.used(len(drafts))
    for item in held:
        when = allowance.when(1 if item.is_critical else 1 + allowance.reserve)
        after.append(
            (item.due.id, replace(item.due.telling, held=item.due.telling.held or Held.LIMIT, due_at=when))
        )
    return Composition(drafts, allowance, after)


def _kind(telling: Telling) -> Kind | None:
    """What is to be told of it; None for nothing."""
    match telling.pending:
        case Pending.RAISED:
            return Kind.FAILED if telling.told is None else Kind.WORSE
        case Pending.CLEARED:
            return Kind.RECOVERED
        case Pending.ONCE:
            return Kind.HAPPENED
        case Pending.FLAPPING:
            return Kind.FLAPS
        case Pending.PASSED:
            return Kind.PASSED
        case Pending.STEADY:
            if telling.told is None:
                return Kind.FAILED if telling.lasts else Kind.PASSED
            return Kind.STILL if telling.lasts else Kind.RECOVERED
        case None:
            return Kind.STILL if telling.lasts and not telling.acknowledged else None


def _settled(telling: Telling, now: dt.datetime) -> Telling:
    """One that flapped, and has been steady since, before a channel could be told of the one or the other."""
    if telling.pending is Pending.FLAPPING and telling.changes and telling.changes[-1] + STEADY <= now:
        return replace(telling, pending=Pending.STEADY)
    return telling


def _share(
    items: Sequence[_Item], allowance: Allowance
) -> tuple[list[list[_Item]], list[_Item], list[_Item]]:
    """What gets a message for each group, what is told together in one, and what has to wait."""
    late = [item for item in items if item.due.telling.held is not None]
    groups: dict[tuple[str, str], list[_Item]] = {}
    for item in items:
        if item.due.telling.held is None:
            groups.setdefault((item.due.route, item.due.group), []).append(item)
    ordered = sorted(groups.values(), key=lambda group: -max(item.news.severity.rank for item in group))
    urgent = [group for group in ordered if any(item.is_critical for item in group)]
    others = ordered[len(urgent) :]
    left = allowance.messages
    urgent_late = any(item.is_critical for item in late)
    if len(urgent) + urgent_late > left or (urgent_late and left > 0):
        if left < 1:
            return [], [], list(items)
        # One message is for a summary, and that one can as well tell of everything else.
        apart = urgent[: left - 1]
        rest = [item for group in (*urgent[left - 1 :], *others) for item in group]
        return apart, [*late, *rest], []
    room = max(0, left - len(urgent) - allowance.reserve)
    if len(others) + bool(late) <= room:
        return ordered, late, []
    if room >= 1:
        rest = [item for group in others[room - 1 :] for item in group]
        return [*urgent, *others[: room - 1]], [*late, *rest], []
    return urgent, [], [*late, *(item for group in others for item in group)]


def _told(item: _Item, now: dt.datetime) -> Telling:
    """What a telling is once a message tells of it."""
    telling = replace(item.due.telling, pending=None, held=None, events=0, due_at=None, told_at=now)
    match item.news.kind:
        case Kind.FAILED | Kind.WORSE | Kind.STILL:
            steady = item.due.telling.pending is Pending.STEADY
            telling = replace(
                telling,
                told=telling.severity,
                flaps=telling.flaps and not steady,
                changes=() if steady else telling.changes,
            )
            return replace(telling, due_at=remind_at(telling, item.due.timing))
        case Kind.RECOVERED | Kind.PASSED:
            steady = item.due.telling.pending is Pending.STEADY
            return replace(
                telling, told=None, acknowledged=False, flaps=False, changes=() if steady else telling.changes
            )
        case Kind.FLAPS:
            return replace(
                telling,
                told=item.news.severity,
                pending=Pending.STEADY,
                due_at=(telling.changes[-1] if telling.changes else now) + STEADY,
            )
        case Kind.HAPPENED:
            return telling
