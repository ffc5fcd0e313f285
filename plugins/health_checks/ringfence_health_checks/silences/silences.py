"""Silences: whose changes of state nobody wants to be told of for a while, and why. Each change of one is an event."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    ConfigDict,
    Field,
    StrictFloat,
    StringConstraints,
    model_validator,
)
from ringfence import PluginContext, WireModel
from ringfence.bounded import STORABLE, Label
from ringfence.declaring import refuse_if_held
from sqlalchemy import text

from ringfence_health_checks.hooks import (
    SILENCES,
    HealthSilenceChanged,
    SilenceChange,
    health_silence_changed,
)

KIND = "Silence"
"""What documents call a silence."""
MAX_SECONDS = 366 * 86_400.0


def _near(time: dt.datetime) -> dt.datetime:
    """A time that every part can hold, whatever zone it is shown in."""
    if not 2000 <= time.year < 2200:
        raise ValueError("must lie between the years 2000 and 2200")
    return time


Time = Annotated[AwareDatetime, AfterValidator(_near)]
_COLUMNS = """
    id, number, check_id, label, place, reason, starts_at, ends_at, created_at, created_by, ended_by,
    clock_timestamp() >= starts_at AND clock_timestamp() < ends_at AS is_active
"""
# A check that does not exist is silenced by none: nothing is written then.
_INSERT = text(f"""
    INSERT INTO health_checks_silences (id, check_id, label, place, reason, starts_at, ends_at, created_by)
    SELECT :id, CAST(:check_id AS uuid), :label, :place, :reason, begin.at,
           coalesce(CAST(:until AS timestamptz), begin.at + make_interval(secs => :seconds)), :by
      FROM (SELECT coalesce(CAST(:begin AS timestamptz), clock_timestamp()) AS at) AS begin
     WHERE CAST(:check_id AS uuid) IS NULL
        OR EXISTS (SELECT FROM health_checks_checks WHERE id = CAST(:check_id AS uuid))
    RETURNING {_COLUMNS}
""")  # noqa: S608
_LIST = text(f"""
    SELECT {_COLUMNS} FROM health_checks_silences
     WHERE number < :before AND (:ended OR ends_at > clock_timestamp()) ORDER BY number DESC LIMIT :limit
""")  # noqa: S608
_ONE = text(f"SELECT {_COLUMNS} FROM health_checks_silences WHERE id = :id")  # noqa: S608
_END = text(f"""
    UPDATE health_checks_silences
       SET ends_at = greatest(starts_at, clock_timestamp()), ended_by = :by
     WHERE id = :id AND ends_at > clock_timestamp() RETURNING {_COLUMNS}
""")  # noqa: S608
# Those that are about a check; one that is about places concerns it where it has such a place.
_OF_CHECK = text(f"""
    SELECT {_COLUMNS} FROM health_checks_silences AS silence
     WHERE ends_at > clock_timestamp()
       AND (check_id = :check_id OR check_id IS NULL AND EXISTS (
            SELECT FROM health_checks_latest AS latest
             WHERE latest.check_id = :check_id AND latest.placed_at IS NOT NULL
               AND (silence.label IS NULL OR silence.label = ANY(latest.place_labels))
               AND (silence.place IS NULL OR silence.place = latest.ran_on)))
     ORDER BY number DESC LIMIT :limit
""")  # noqa: S608
_EXISTS = text("SELECT FROM health_checks_silences WHERE id = :id")
_THIN = text(
    "DELETE FROM health_checks_silences WHERE ends_at < clock_timestamp() - make_interval(secs => :seconds)"
)


class SilenceWanted(WireModel):
    """Whose changes are silenced: those to which all apply that is given. From now on, if nothing else is said.

    `satellite` is `core` or a satellite's id, `label` is one of a satellite's as a text, `name` or `name=value`.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    check: UUID | None = None
    label: Label | None = None
    satellite: Label | None = None
    begin: Time | None = Field(default=None, alias="from")
    until: Time | None = None
    for_seconds: Annotated[StrictFloat, Field(gt=0, le=MAX_SECONDS)] | None = None
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500), STORABLE]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.check is None and self.label is None and self.satellite is None:
            raise ValueError("must say whom it silences: a check, a label or a satellite")
        if (self.until is None) == (self.for_seconds is None):
            raise ValueError("must say until when, or for how many seconds (forSeconds), and not both")
        if self.until is not None and self.begin is not None and self.until <= self.begin:
            raise ValueError("must end after it begins")
        return self


@dataclass(frozen=True, slots=True)
class Silence:
    """A silence as it is stored; one that has ended is kept for a while."""

    id: UUID
    number: int
    check_id: UUID | None
    label: str | None
    place: str | None
    reason: str
    starts_at: dt.datetime
    ends_at: dt.datetime
    created_at: dt.datetime
    created_by: str
    ended_by: str | None
    is_active: bool

    def to_wire(self) -> dict[str, Any]:
        """The silence as JSON for the API."""
        return {
            "id": str(self.id),
            "check": None if self.check_id is None else str(self.check_id),
            "label": self.label,
            "satellite": self.place,
            "reason": self.reason,
            "from": self.starts_at,
            "until": self.ends_at,
            "active": self.is_active,
            "createdAt": self.created_at,
            "createdBy": self.created_by,
            "endedBy": self.ended_by,
        }


class Silences:
    """Reads and writes silences."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def add(self, wanted: SilenceWanted, *, by: str) -> Silence | None:
        """Silence what is wanted; None if there is no such check."""
        values = {
            "id": uuid.uuid4(),
            "check_id": wanted.check,
            "label": wanted.label,
            "place": wanted.satellite,
            "reason": wanted.reason,
            "begin": wanted.begin,
            "until": wanted.until,
            "seconds": wanted.for_seconds or 0.0,
            "by": by,
        }
        return await self._write(_INSERT, values, SilenceChange.ADDED, by)

    async def end(self, id: UUID, *, by: str) -> Silence | None:
        """End a silence now; None if there is none that has not ended."""
        return await self._write(_END, {"id": id, "by": by}, SilenceChange.ENDED, by)

    async def exists(self, id: UUID) -> bool:
        """Whether there is a silence with this id, ended or not."""
        async with self._context.sessions() as session:
            return (await session.execute(_EXISTS, {"id": id})).one_or_none() is not None

    async def one(self, id: UUID) -> Silence | None:
        """The silence with this id, ended or not."""
        async with self._context.sessions() as session:
            row = (await session.execute(_ONE, {"id": id})).one_or_none()
        return None if row is None else Silence(*row)

    async def listed(self, *, before: int, ended: bool, limit: int) -> Sequence[Silence]:
        """The silences with lower numbers than `before`, newest first; those that have ended too, if wanted."""
        values = {"before": before, "ended": ended, "limit": limit}
        async with self._context.sessions() as session:
            return [Silence(*row) for row in await session.execute(_LIST, values)]

    async def concerning(self, check_id: UUID, *, limit: int) -> Sequence[Silence]:
        """The silences that concern a check, in some of its places at least, and have not ended; the newest first."""
        async with self._context.sessions() as session:
            rows = await session.execute(_OF_CHECK, {"check_id": check_id, "limit": limit})
            return [Silence(*row) for row in rows]

    async def thin(self, *, keep_seconds: float) -> None:
        """Forget those that ended longer ago than that."""
        async with self._context.sessions.begin() as session:
            await session.execute(_THIN, {"seconds": keep_seconds})

    async def _write(
        self, statement: Any, values: dict[str, Any], change: SilenceChange, by: str
    ) -> Silence | None:
        async with self._context.sessions.begin() as session:
            await refuse_if_held(self._context, session, KIND, id=str(values["id"]))
            row = (await session.execute(statement, values)).one_or_none()
            if row is None:
                return None
            silence = Silence(*row)
            fact = HealthSilenceChanged(
                silence_id=silence.id,
                change=change,
                check_id=silence.check_id,
                label=silence.label,
                place=silence.place,
                reason=silence.reason,
                since=silence.starts_at,
                until=silence.ends_at,
            )
            await self._context.emit_hook(
                health_silence_changed, fact, session=session, stream=SILENCES, actor=by
            )
        return silence
