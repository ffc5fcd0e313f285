"""When a place counts as being in another state: after so many results in a row, and not while it flaps. Pure.

What a place's newest result says is shown as it is; this is the state that alarms go by, which is *settled*. It moves
to a worse state after `failures_before_alarm` results in a row that are worse, and to a better one after
`successes_before_recovery` that are better. Results that change more often than `Flapping` allows hold it where it is.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ringfence.scripts import Health

from ringfence_health_checks.definitions.patience import Flapping, Patience


@dataclass(frozen=True, slots=True)
class Settled:
    """The settled state of a check in one place, and what is needed to tell when it moves.

    `status` is None until the first state has settled. `streak` counts the results in a row that were worse than
    `status` (above 0) or better (below 0). `changes` are the times at which a result differed from the one before.
    `held` is what a stale place goes back to; None unless it is stale.
    """

    status: Health | None = None
    since: dt.datetime | None = None
    last: Health | None = None
    streak: int = 0
    changes: tuple[dt.datetime, ...] = ()
    flapping: bool = False
    stale: bool = False
    held: tuple[Health | None, dt.datetime | None] = (None, None)

    def is_unmoved_by(self, status: Health) -> bool:
        """Whether another result like this would change nothing of all this, whenever it comes."""
        return status is self.status is self.last and not self.streak and not self.flapping and not self.stale

    def after(self, status: Health, at: dt.datetime, patience: Patience) -> Settled:
        """What a result makes of it. `at` is when it ran, and is not before that of the result before."""
        if self.stale:
            return self.returned(at).after(status, at, patience)
        changes = self._changes(status, at, patience.flapping)
        flapping = patience.flapping is not None and len(changes) > patience.flapping.changes
        streak = self._streak(status)
        heard = replace(self, last=status, changes=changes, flapping=flapping, streak=streak)
        if streak == 0 or flapping or not self._is_enough(streak, patience):
            return heard
        return replace(heard, status=status, since=at, streak=0)

    def gone_stale(self, at: dt.datetime) -> Settled:
        """Nothing is known of it any more. What results in a row there were no longer are."""
        if self.stale:
            return self
        return replace(
            self,
            status=Health.UNKNOWN,
            since=self.since if self.status is Health.UNKNOWN else at,
            streak=0,
            changes=(),
            flapping=False,
            stale=True,
            held=(self.status, self.since),
        )

    def returned(self, at: dt.datetime) -> Settled:
        """It is heard of again: it is as it was held, from now on."""
        status, since = self.held
        if status is not Health.UNKNOWN:
            since = None if status is None else at
        return replace(self, status=status, since=since, stale=False, held=(None, None))

    def differs_from(self, other: Settled) -> bool:
        """Whether this is worth telling after `other`: another state, or whether it flaps."""
        return (self.status, self.flapping) != (other.status, other.flapping)

    def _changes(self, status: Health, at: dt.datetime, flapping: Flapping | None) -> tuple[dt.datetime, ...]:
        if flapping is None:
            return ()
        begin = at - dt.timedelta(seconds=flapping.window_seconds)
        kept = tuple(one for one in self.changes if one > begin)
        if self.last is not None and status is not self.last:
            kept += (at,)
        return kept[-(flapping.changes + 1) :]

    def _streak(self, status: Health) -> int:
        # What has no state yet is taken for healthy: its first failures are waited for, too.
        way = status.severity - (self.status or Health.HEALTHY).severity
        if way > 0:
            return max(self.streak, 0) + 1
        if way < 0 or self.status is None:
            return min(self.streak, 0) - 1
        return 0

    def _is_enough(self, streak: int, patience: Patience) -> bool:
        if self.status is None and streak < 0:
            return True
        return streak >= patience.failures_before_alarm or -streak >= patience.successes_before_recovery

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any] | None) -> Settled:
        """What `to_wire` made; of nothing, what nothing has been heard of."""
        if wire is None:
            return cls()
        held_status, held_since = wire.get("held", (None, None))
        return cls(
            _health(wire["status"]),
            _time(wire["since"]),
            _health(wire["last"]),
            wire["streak"],
            tuple(map(dt.datetime.fromisoformat, wire["changes"])),
            wire["flapping"],
            wire["stale"],
            (_health(held_status), _time(held_since)),
        )

    def to_wire(self) -> dict[str, Any]:
        """The same as JSON."""
        held_status, held_since = self.held
        return {
            "status": self.status,
            "since": _text(self.since),
            "last": self.last,
            "streak": self.streak,
            "changes": [one.isoformat() for one in self.changes],
            "flapping": self.flapping,
            "stale": self.stale,
            "held": [held_status, _text(held_since)],
        }


def _health(told: str | None) -> Health | None:
    return None if told is None else Health(told)


def _time(told: str | None) -> dt.datetime | None:
    return None if told is None else dt.datetime.fromisoformat(told)


def _text(time: dt.datetime | None) -> str | None:
    return None if time is None else time.isoformat()
