"""What a channel knows of an incident, and how that is moved by what happens.

Nobody is told of a recovery who was not told of the failure, and whoever was told of the failure is told of its end.
Each event that is taken is counted once: with the message that tells of it, or as suppressed, with why.
"""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass, replace

from ringfence_notifications.severity import Severity

FLAPS_AFTER = 6
"""So many changes within `FLAPS_WITHIN`, and an incident flaps."""
FLAPS_WITHIN = dt.timedelta(hours=1)
STEADY = dt.timedelta(minutes=15)
"""For so long one that flaps must not change, to be told of again."""


class Phase(enum.StrEnum):
    """What an event says of an incident: it lasts from now on, it is over, or it was over at once."""

    RAISED = "raised"
    CLEARED = "cleared"
    ONCE = "once"


class Pending(enum.StrEnum):
    """What a channel has yet to be told of."""

    RAISED = "raised"
    CLEARED = "cleared"
    ONCE = "once"
    FLAPPING = "flapping"
    STEADY = "steady"
    """That one which flapped does so no longer."""
    PASSED = "passed"
    """That something was held back, and is over by now."""


class Held(enum.StrEnum):
    """Why something that was due was not sent."""

    QUIET = "quiet"
    LIMIT = "limit"


class Why(enum.StrEnum):
    """Why an event is in no message to a channel."""

    ALREADY_TOLD = "already-told"
    PASSED = "over-before-told"
    RETURNED = "failed-again-before-told"
    FLAPPING = "flapping"
    NO_CHANNEL = "no-channel"
    LESS_SEVERE = "less-severe"
    SWITCHED_OFF = "channel-switched-off"
    ROUTE_OFF = "route-switched-off"
    UNREADABLE = "expression-failed"


@dataclass(frozen=True, slots=True)
class Suppressed:
    """So many events are in no message, and why."""

    why: Why
    events: int


@dataclass(frozen=True, slots=True)
class Timing:
    """How long what happens is gathered, and when it is told again. `repeat`: None for never.

    `again`: after something that was over at once was told, the next one of the same kind is gathered at least so long.
    """

    window: dt.timedelta
    repeat: dt.timedelta | None
    again: dt.timedelta


@dataclass(frozen=True, slots=True)
class Fact:
    """What an event says."""

    phase: Phase
    severity: Severity
    title: str
    text: str
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Telling:
    """What one channel knows of one incident, and what it has yet to be told, at `due_at` at the earliest.

    `told` is how bad the channel was told that it is, and None once it was told that it is over. `events` are those
    which the next message tells of; `changes` are the latest times at which it began or was over.
    """

    severity: Severity
    title: str
    text: str
    since: dt.datetime
    link: str | None = None
    lasts: bool = False
    acknowledged: bool = False
    told: Severity | None = None
    told_at: dt.datetime | None = None
    pending: Pending | None = None
    due_at: dt.datetime | None = None
    held: Held | None = None
    events: int = 0
    flaps: bool = False
    changes: tuple[dt.datetime, ...] = ()

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to be told of it any more."""
        return not self.lasts and self.told is None and self.pending is None


def taken(
    before: Telling | None,
    fact: Fact,
    timing: Timing,
    now: dt.datetime,
    *,
    group_due: dt.datetime | None = None,
) -> tuple[Telling | None, Suppressed | None]:
    """What becomes of a telling by an event, and what of the event if it is in no message.

    `group_due`: when the next message of the same group is due, if one is; what happens until then is told with it.
    """
    due = now + timing.window
    if group_due is not None and group_due < due:
        due = group_due
    if before is None:
        if fact.phase is Phase.CLEARED:
            return None, Suppressed(Why.ALREADY_TOLD, 1)
        before = Telling(fact.severity, fact.title, fact.text, now)
    if fact.phase is Phase.ONCE:
        return _once(before, fact, timing, now, due), None
    if before.flaps and before.pending is Pending.STEADY:
        return _flapping(before, fact, now)
    if fact.phase is Phase.RAISED:
        return _raised(before, fact, timing, now, due)
    return _cleared(before, fact, now, due)


def acknowledged(telling: Telling) -> Telling:
    """The same after somebody has said that they know of it: there are no reminders of it."""
    if not telling.lasts:
        return telling
    silent = telling.pending is None
    return replace(
        telling,
        acknowledged=True,
        due_at=None if silent else telling.due_at,
        held=None if silent else telling.held,
    )


def remind_at(telling: Telling, timing: Timing) -> dt.datetime | None:
    """When a channel that knows of it is told again; None for never."""
    if not telling.lasts or telling.acknowledged or timing.repeat is None or telling.told_at is None:
        return None
    return telling.told_at + timing.repeat


def _described(telling: Telling, fact: Fact) -> Telling:
    return replace(telling, severity=fact.severity, title=fact.title, text=fact.text, link=fact.link)


def _once(before: Telling, fact: Fact, timing: Timing, now: dt.datetime, due: dt.datetime) -> Telling:
    pending = before.pending is Pending.ONCE
    worst = max(fact.severity, before.severity, key=lambda one: one.rank) if pending else fact.severity
    after = replace(_described(before, fact), severity=worst, pending=Pending.ONCE, events=before.events + 1)
    if pending and (before.held is None or worst is before.severity):
        return after
    if before.told_at is not None:
        due = max(due, before.told_at + timing.again)
    return replace(after, since=before.since if pending else now, due_at=due, held=None)


def _raised(
    before: Telling, fact: Fact, timing: Timing, now: dt.datetime, due: dt.datetime
) -> tuple[Telling, Suppressed | None]:
    after = _described(before, fact)
    if before.lasts:
        is_worse = fact.severity.rank > (before.told or before.severity).rank
        if before.told is None or before.pending is not None:
            after = replace(after, events=before.events + 1)
            return (_looked_at_again(after, due) if is_worse else after), None
        if is_worse:
            return replace(
                after, pending=Pending.RAISED, events=1, due_at=due, held=None, acknowledged=False
            ), None
        return after, Suppressed(Why.ALREADY_TOLD, 1)
    after = _changed(replace(after, lasts=True, acknowledged=False), now)
    if _begins_to_flap(after):
        return _flaps(after, due), None
    if before.pending is Pending.FLAPPING:
        return replace(after, events=before.events + 1), None
    if before.pending is Pending.CLEARED:
        # They believe that it fails, and are right again.
        untold = Suppressed(Why.RETURNED, before.events + 1)
        again = replace(after, since=before.since, pending=None, events=0, held=None)
        if fact.severity.rank > (before.told or fact.severity).rank:
            return replace(again, pending=Pending.RAISED, events=before.events + 1, due_at=due), None
        return replace(again, due_at=remind_at(again, timing)), untold
    if before.pending is Pending.PASSED:
        after = replace(after, since=now, pending=Pending.RAISED, events=before.events + 1)
        is_worse = fact.severity.rank > before.severity.rank
        return (_looked_at_again(after, due) if is_worse else after), None
    return replace(
        after, since=now, pending=Pending.RAISED, events=before.events + 1, due_at=due, held=None
    ), None


def _cleared(
    before: Telling, fact: Fact, now: dt.datetime, due: dt.datetime
) -> tuple[Telling, Suppressed | None]:
    if not before.lasts:
        return before, Suppressed(Why.ALREADY_TOLD, 1)
    after = _changed(replace(before, lasts=False), now)
    if _begins_to_flap(after):
        return _flaps(after, due), None
    if before.pending is Pending.FLAPPING:
        return replace(after, events=before.events + 1), None
    if before.told is not None:
        return replace(
            after, pending=Pending.CLEARED, text=fact.text, events=before.events + 1, due_at=due, held=None
        ), None
    if before.held is not None:
        return replace(after, pending=Pending.PASSED, text=fact.text, events=before.events + 1), None
    return replace(after, pending=None, due_at=None, events=0), Suppressed(Why.PASSED, before.events + 1)


def _flapping(before: Telling, fact: Fact, now: dt.datetime) -> tuple[Telling, Suppressed]:
    raised = fact.phase is Phase.RAISED
    after = _described(before, fact) if raised else replace(before, text=fact.text)
    if raised is not before.lasts:
        after = _changed(replace(after, lasts=raised), now)
        after = replace(after, due_at=now + STEADY, held=None)
    return after, Suppressed(Why.FLAPPING, 1)


def _looked_at_again(telling: Telling, due: dt.datetime) -> Telling:
    """One that is held back, and has become worse: it may pass now."""
    return telling if telling.held is None else replace(telling, due_at=due, held=None)


def _changed(telling: Telling, now: dt.datetime) -> Telling:
    recent = tuple(one for one in telling.changes if one > now - FLAPS_WITHIN)
    return replace(telling, changes=(*recent, now)[-FLAPS_AFTER:])


def _begins_to_flap(telling: Telling) -> bool:
    return not telling.flaps and len(telling.changes) >= FLAPS_AFTER


def _flaps(telling: Telling, due: dt.datetime) -> Telling:
    held = telling.held is not None and telling.due_at is not None
    return replace(
        telling,
        flaps=True,
        pending=Pending.FLAPPING,
        events=telling.events + 1,
        due_at=telling.due_at if held else due,
    )
