"""The hours of a day in which a channel is not to be disturbed by what can wait."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from ringfence_notifications.severity import Severity


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begins` to `ends` of each day by the clocks of `zone`, over midnight too.

    What is as bad as `passes`, or worse, passes in them.
    On a day whose clocks leave out or repeat an hour they begin and end when the clocks show it first.
    """

    begins: dt.time
    ends: dt.time
    zone: ZoneInfo
    passes: Severity

    def __post_init__(self) -> None:
        if self.begins == self.ends:
            raise ValueError("quiet hours must not begin when they end")

    def until(self, now: dt.datetime) -> dt.datetime | None:
        """When the quiet hours end in which `now` lies; None if it lies in none."""
        today = now.astimezone(self.zone).date()
        for day in (today - dt.timedelta(days=1), today):
            ends_on = day if self.begins < self.ends else day + dt.timedelta(days=1)
            if self._moment(day, self.begins) <= now < (ends := self._moment(ends_on, self.ends)):
                return ends
        return None

    def hold(self, severity: Severity) -> bool:
        """Whether what is so bad has to wait in them."""
        return severity.rank < self.passes.rank

    def _moment(self, day: dt.date, time: dt.time) -> dt.datetime:
        return dt.datetime.combine(day, time, self.zone).astimezone(dt.UTC)
