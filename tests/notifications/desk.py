"""A channel's desk in memory: what the plugin does with a database, without one. Counts what becomes of each event."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field

from ringfence_notifications.deciding import (
    Allowance,
    Draft,
    Due,
    Fact,
    Limits,
    Phase,
    QuietHours,
    Telling,
    Timing,
    Why,
    acknowledged,
    compose,
    taken,
)
from ringfence_notifications.severity import Severity

NOON = dt.datetime(2030, 6, 3, 12, 0, tzinfo=dt.UTC)
TIMING = Timing(dt.timedelta(seconds=30), dt.timedelta(hours=4), dt.timedelta(hours=1))


def seconds(count: float) -> dt.timedelta:
    return dt.timedelta(seconds=count)


@dataclass
class Desk:
    """One channel, told of incidents by name; `now` moves on by `wait` alone."""

    per_hour: int = 30
    quiet: QuietHours | None = None
    timing: Timing = TIMING
    now: dt.datetime = NOON
    tellings: dict[str, Telling] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    sent: list[tuple[dt.datetime, Draft]] = field(default_factory=list)
    suppressed: Counter[Why] = field(default_factory=Counter)
    happened: int = 0

    def __post_init__(self) -> None:
        self.allowance = Allowance.full(self.per_hour, self.now)

    def happens(
        self,
        phase: Phase,
        name: str,
        severity: Severity = Severity.ERROR,
        *,
        group: str = "",
        text: str = "because",
    ) -> None:
        """An event says something of an incident."""
        self.happened += 1
        self.groups[name] = group
        mates = [
            one.due_at
            for other, one in self.tellings.items()
            if self.groups[other] == group
            and one.pending is not None
            and one.held is None
            and one.due_at is not None
            and one.due_at > self.now
        ]
        fact = Fact(phase, severity, f"{name} fails", text)
        after, lost = taken(
            self.tellings.get(name), fact, self.timing, self.now, group_due=min(mates, default=None)
        )
        if after is not None:
            self.tellings[name] = after
        if lost is not None:
            self.suppressed[lost.why] += lost.events

    def raised(self, name: str, severity: Severity = Severity.ERROR, *, group: str = "") -> None:
        self.happens(Phase.RAISED, name, severity, group=group)

    def cleared(self, name: str, *, group: str = "") -> None:
        self.happens(Phase.CLEARED, name, group=group)

    def once(self, name: str, severity: Severity = Severity.ERROR, *, group: str = "") -> None:
        self.happens(Phase.ONCE, name, severity, group=group)

    def ack(self, name: str) -> None:
        self.tellings[name] = acknowledged(self.tellings[name])

    def wait(self, time: dt.timedelta) -> list[Draft]:
        """Let time pass, and answer the messages of it."""
        before, end = len(self.sent), self.now + time
        while (at := self._next_due()) is not None and at <= end:
            self.now = max(self.now, at)
            self.look()
        self.now = end
        return [message for _, message in self.sent[before:]]

    def look(self) -> None:
        due = [
            Due(name, one, "route", self.groups[name], "things", self.timing)
            for name, one in self.tellings.items()
            if one.due_at is not None and one.due_at <= self.now
        ]
        made = compose(due, Limits(self.allowance, self.quiet), self.now)
        assert {id for id, _ in made.tellings} == {one.id for one in due}
        for id, after in made.tellings:
            assert after.due_at is None or after.due_at > self.now, "it would be looked at again and again"
            self.tellings[str(id)] = after
        self.allowance = made.allowance
        self.sent += [(self.now, message) for message in made.drafts]

    def _next_due(self) -> dt.datetime | None:
        return min((one.due_at for one in self.tellings.values() if one.due_at is not None), default=None)

    @property
    def titles(self) -> list[str]:
        return [message.title for _, message in self.sent]

    @property
    def accounted(self) -> int:
        """Events that are in a message, suppressed, or yet to be told."""
        told = sum(message.events for _, message in self.sent)
        return told + self.suppressed.total() + sum(one.events for one in self.tellings.values())
