"""Settled states in the database: moved by results, and by their absence; each move with its event, in one transaction.

The row of a place's newest result is locked by whoever moves it until the transaction ends, so two instances that have
results of one place settle them one after the other, and each change is told once for the fleet.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from ringfence import PluginContext
from ringfence.scripts import Health
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_health_checks.definitions.definition import Outline
from ringfence_health_checks.definitions.patience import Patience
from ringfence_health_checks.hooks import HealthStateChanged, health_state_changed, stream_of
from ringfence_health_checks.silences.silenced import SILENCED
from ringfence_health_checks.states.settling_rules import Settled

_OF_CHECKS = text(f"""
    SELECT latest.check_id, latest.ran_on, checks.name, checks.outline, {SILENCED} AS silenced
      FROM unnest(CAST(:checks AS uuid[]), CAST(:places AS text[])) AS one (check_id, ran_on)
      JOIN health_checks_checks AS checks ON checks.id = one.check_id
      JOIN health_checks_latest AS latest ON latest.check_id = one.check_id AND latest.ran_on = one.ran_on
""")  # noqa: S608
_WRITE = text("""
    UPDATE health_checks_latest AS latest SET settling = one.settling
      FROM unnest(CAST(:checks AS uuid[]), CAST(:places AS text[]), CAST(:settlings AS jsonb[]))
           AS one (check_id, ran_on, settling)
     WHERE latest.check_id = one.check_id AND latest.ran_on = one.ran_on
""")


@dataclass(frozen=True, slots=True)
class Row:
    """The row of a place's newest result, which this transaction has locked."""

    check_id: UUID
    ran_on: str
    place_name: str | None
    place_labels: Sequence[str]
    settling: Mapping[str, Any] | None

    @property
    def settled(self) -> Settled:
        """The state as it is stored."""
        return Settled.from_wire(self.settling)


@dataclass(frozen=True, slots=True)
class News:
    """What moves a place: a result, or (`status` is None) that none has come, or that it is heard of again."""

    row: Row
    at: dt.datetime
    message: str
    status: Health | None = None
    result_id: str | None = None
    is_gone: bool = False

    @property
    def is_none(self) -> bool:
        """Whether it is clear without asking that it moves nothing."""
        return self.status is not None and self.row.settled.is_unmoved_by(self.status)

    def moved(self, patience: Patience) -> Settled:
        """What becomes of the state."""
        before = self.row.settled
        if self.status is not None:
            return before.after(self.status, self.at, patience)
        return before.gone_stale(self.at) if self.is_gone else before.returned(self.at)


async def settle(context: PluginContext, session: AsyncSession, news: Sequence[News]) -> int:
    """Move the states of places, each named once, and tell of those that have changed; answers how many were moved."""
    moving = [one for one in news if not one.is_none]
    if not moving:
        return 0
    keys = {"checks": [one.row.check_id for one in moving], "places": [one.row.ran_on for one in moving]}
    known = {(row.check_id, row.ran_on): row for row in await session.execute(_OF_CHECKS, keys)}
    written: list[tuple[News, Settled]] = []
    told: list[tuple[str, HealthStateChanged]] = []
    for one in moving:
        check = known.get((one.row.check_id, one.row.ran_on))
        if check is None:
            continue
        patience = _patience(check.outline)
        if patience is None:
            continue
        before, after = one.row.settled, one.moved(patience)
        if after == before:
            continue
        written.append((one, after))
        if after.differs_from(before) and after.status is not None and after.since is not None:
            told.append((stream_of(one.row.check_id), _fact(one, check, before, after)))
    if written:
        values = {
            "checks": [one.row.check_id for one, _ in written],
            "places": [one.row.ran_on for one, _ in written],
            "settlings": [json.dumps(after.to_wire()) for _, after in written],
        }
        await session.execute(_WRITE, values)
    if told:
        # Last, since it holds the log's lock until the transaction ends.
        await context.emit_hooks(health_state_changed, told, session=session)
    return len(written)


def _patience(outline: Mapping[str, Any]) -> Patience | None:
    """How a check's states settle; None for one that does not run, and so has no state."""
    try:
        definition = Outline.stored(outline)
    except ValidationError:
        return Patience()
    return definition.patience if definition.enabled else None


def _fact(news: News, check: Any, before: Settled, after: Settled) -> HealthStateChanged:
    assert after.status is not None
    assert after.since is not None
    return HealthStateChanged(
        check_id=news.row.check_id,
        check_name=check.name,
        system=str(check.outline.get("system", "")),
        place=news.row.ran_on,
        place_name=news.row.place_name,
        labels={name: value for name, _, value in (one.partition("=") for one in news.row.place_labels)},
        previous=before.status,
        state=after.status,
        since=after.since,
        message=news.message,
        result_id=news.result_id,
        silenced=check.silenced,
        flapping=after.flapping,
        stale=after.stale,
    )
