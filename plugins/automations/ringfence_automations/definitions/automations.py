"""The automations in the database: each change is an event of its automation's stream, and the row that follows.

The stream is the truth: its versions are the revisions, also over deleting and making anew, and it is kept for ever.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import ValidationError
from ringfence import PluginContext, TokenHolder
from ringfence.declaring import refuse_if_held
from ringfence.eventlog import EventRecord, read_stream
from ringfence.redaction import describe
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.definitions.definition import Definition
from ringfence_automations.definitions.stored import Automation, Revision
from ringfence_automations.hooks import AutomationChange, AutomationChanged, automation_changed, stream_of

KIND = "Automation"
"""What documents call an automation."""
_COLUMNS = """
    name, revision, definition, acts_for, token, paused, updated_at, updated_by, position, created_at, created_by
"""
_ALL = text(f"SELECT {_COLUMNS} FROM automations_automations ORDER BY name")  # noqa: S608
_PAGE = text(f"""
    SELECT {_COLUMNS} FROM automations_automations WHERE name > :after ORDER BY name LIMIT :limit
""")  # noqa: S608
_ONE = text(f"SELECT {_COLUMNS} FROM automations_automations WHERE name = :name")  # noqa: S608
_WRITE = text(f"""
    INSERT INTO automations_automations AS kept (name, revision, enabled, definition, acts_for, token, paused, position,
                                                 created_at, created_by, updated_at, updated_by)
    VALUES (:name, :revision, :enabled, CAST(:definition AS jsonb), :acts_for, :token, :paused, :position,
            :at, :by, :at, :by)
    ON CONFLICT (name) DO UPDATE
       SET revision = excluded.revision, enabled = excluded.enabled, definition = excluded.definition,
           acts_for = excluded.acts_for, token = excluded.token, paused = excluded.paused,
           position = excluded.position,
           updated_at = excluded.updated_at, updated_by = excluded.updated_by
    RETURNING {_COLUMNS}
""")  # noqa: S608
_DELETE = text("DELETE FROM automations_automations WHERE name = :name")
# Writers take turns, so that those who write several automations at once do not wait for each other crosswise.
_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended('automations.write', 0))")
MOST_REMEMBERED = 1000
_log = structlog.get_logger("ringfence.automations")


class StaleAutomationError(RuntimeError):
    """The automation is not at the revision that the writer had read."""

    def __init__(self, name: str, expected: int, current: int) -> None:
        at = f"{name} is at revision {current}" if current else f"there is no automation {name}"
        super().__init__(
            f"{at}, and the change is meant for revision {expected}: look at it, and send it again"
        )


class UnreadableAutomationError(RuntimeError):
    """An automation is stored that this release cannot read, most likely since a newer one wrote it."""

    def __init__(self, name: str, revision: int, error: ValidationError) -> None:
        super().__init__(
            f"this release cannot read revision {revision} of {name}: {describe(error)}; use the release that wrote it"
        )


@dataclass(frozen=True, slots=True)
class Written:
    """What a write came to. `change` is None if nothing has changed; `before` is what was there."""

    automation: Automation
    change: AutomationChange | None
    before: Automation | None


@dataclass(frozen=True, slots=True)
class Told:
    """One entry of an automation's history."""

    revision: int
    change: AutomationChange
    acts_for: str
    definition: dict[str, Any]
    by: str | None
    reason: str | None
    at: Any

    def to_wire(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "revision": self.revision,
            "change": self.change.value,
            "actsFor": self.acts_for,
            "definition": self.definition,
            "changedBy": self.by,
            "reason": self.reason,
            "changedAt": self.at,
        }


class Automations:
    """Reads and writes automations."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._remembered: OrderedDict[tuple[str, int], Revision] = OrderedDict()
        self._told: set[tuple[str, int]] = set()

    async def all(self, session: AsyncSession) -> list[Automation]:
        """Every automation, by name. One that this release cannot read is left out, and told in the log."""
        return self._readable(await session.execute(_ALL))

    async def page(self, *, after: str, limit: int) -> list[Automation]:
        """Automations by name, from after a name; those that cannot be read are left out, as by `all`."""
        async with self._context.sessions() as session:
            return self._readable(await session.execute(_PAGE, {"after": after, "limit": limit}))

    async def one(self, session: AsyncSession, name: str) -> Automation | None:
        """The automation of this name. Raises `UnreadableAutomationError`."""
        row = (await session.execute(_ONE, {"name": name})).one_or_none()
        return None if row is None else _automation(row)

    async def at(self, session: AsyncSession, name: str, revision: int) -> Revision | None:
        """A revision of an automation, also of one that is deleted. Raises `UnreadableAutomationError`.

        A database that is set back may give a revision again to something else: `forget` what is known then.
        """
        if (known := self._remembered.get((name, revision))) is not None:
            self._remembered.move_to_end((name, revision))
            return known
        records = await read_stream(session, stream_of(name), after=revision - 1, limit=1)
        if not records or records[0].version != revision:
            return None
        found = _revision(records[0])
        self._remembered[(name, revision)] = found
        while len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return found

    def forget(self) -> None:
        """Know no revision by heart any more."""
        self._remembered.clear()

    async def history(self, name: str, *, before: int, limit: int) -> list[Told]:
        """The revisions below `before`, newest first."""
        async with self._context.sessions() as session:
            records = await read_stream(
                session, stream_of(name), before=before, limit=limit, newest_first=True
            )
        return [_told(record) for record in records]

    async def turn(self, session: AsyncSession) -> None:
        """Wait until nobody else writes automations; until this transaction ends, nobody does."""
        await session.execute(_TURN)

    async def write(
        self,
        session: AsyncSession,
        definition: Definition,
        holder: TokenHolder,
        *,
        by: str,
        reason: str | None = None,
        expected: int | None = None,
        resumes: bool = True,
    ) -> Written:
        """Make an automation be so, and act for `holder`.

        What is so already makes no revision, and a definition that says nothing of `enabled` leaves that alone. One
        that the host has paused stays so unless the write `resumes` it. The caller has its `turn`. Raises
        `StaleAutomationError`; `expected` 0 means that there must be none.
        """
        before = await self._expected(session, definition.name, expected)
        paused = None
        if before is not None and before.paused is not None and not resumes:
            definition, paused = _enabled(definition, False), before.paused
        elif before is not None and "enabled" not in definition.model_fields_set:
            definition, paused = _enabled(definition, before.definition.enabled), before.paused
        is_same = (
            before is not None
            and before.token == holder.token
            and before.definition.to_wire() == definition.to_wire()
        )
        if before is not None and is_same:
            return Written(before, None, before)
        await refuse_if_held(self._context, session, KIND, definition.name)
        change = AutomationChange.CREATED if before is None else AutomationChange.UPDATED
        told = AutomationChanged(
            name=definition.name,
            revision=await self._next(session, definition.name),
            change=change,
            definition=definition.to_wire(),
            acts_for=holder.principal.name,
            token=holder.token,
        )
        after = await self._tell(session, told, by=by, reason=reason, paused=paused)
        return Written(after, change, before)

    async def enable(
        self,
        session: AsyncSession,
        name: str,
        enabled: bool,
        *,
        by: str,
        reason: str | None = None,
        expected: int | None = None,
        paused: str | None = None,
    ) -> Written | None:
        """Enable or disable an automation, which goes on to act for whom it does. None when there is none.

        `paused` says why the host does it by itself. The caller has its `turn`. Raises `StaleAutomationError`.
        """
        before = await self._expected(session, name, expected)
        if before is None:
            return None
        if before.definition.enabled is enabled:
            return Written(before, None, before)
        told = AutomationChanged(
            name=name,
            revision=await self._next(session, name),
            change=AutomationChange.UPDATED,
            definition=_enabled(before.definition, enabled).to_wire(),
            acts_for=before.acts_for,
            token=before.token,
        )
        after = await self._tell(session, told, by=by, reason=reason, paused=paused)
        return Written(after, AutomationChange.UPDATED, before)

    async def pause(
        self,
        session: AsyncSession,
        name: str,
        reason: str,
        too_often: Callable[[AsyncSession, dt.datetime], Awaitable[object]],
    ) -> int | None:
        """Disable an automation, if it is enabled and `too_often` holds since its last change; its revision then."""
        await self.turn(session)
        before = await self.one(session, name)
        if before is None or not before.definition.enabled or not await too_often(session, before.changed_at):
            return None
        await self.enable(session, name, False, by="ringfence", reason=reason, paused=reason)
        return before.revision

    async def delete(
        self,
        session: AsyncSession,
        name: str,
        *,
        by: str,
        reason: str | None = None,
        expected: int | None = None,
    ) -> bool:
        """Delete an automation. False when there is none. The caller has its `turn`. Raises `StaleAutomationError`."""
        row = (await session.execute(_ONE, {"name": name})).one_or_none()
        _check(name, expected, 0 if row is None else row.revision)
        if row is None:
            return False
        await refuse_if_held(self._context, session, KIND, name)
        told = AutomationChanged(
            name=name,
            revision=await self._next(session, name),
            change=AutomationChange.DELETED,
            definition=row.definition,
            acts_for=row.acts_for,
            token=row.token,
        )
        await self._emit(session, told, by=by, reason=reason)
        await session.execute(_DELETE, {"name": name})
        return True

    async def _expected(self, session: AsyncSession, name: str, expected: int | None) -> Automation | None:
        before = await self.one(session, name)
        _check(name, expected, 0 if before is None else before.revision)
        return before

    async def _next(self, session: AsyncSession, name: str) -> int:
        newest = await read_stream(session, stream_of(name), limit=1, newest_first=True)
        return newest[0].version + 1 if newest else 1

    async def _tell(
        self,
        session: AsyncSession,
        told: AutomationChanged,
        *,
        by: str,
        reason: str | None,
        paused: str | None = None,
    ) -> Automation:
        event = await self._emit(session, told, by=by, reason=reason)
        row = await session.execute(
            _WRITE,
            {
                "name": told.name,
                "revision": told.revision,
                "enabled": told.definition.get("enabled", True),
                "definition": json.dumps(told.definition),
                "acts_for": told.acts_for,
                "token": told.token,
                "paused": paused,
                "position": event.position,
                "at": event.occurred_at,
                "by": by,
            },
        )
        return _automation(row.one())

    async def _emit(
        self, session: AsyncSession, told: AutomationChanged, *, by: str, reason: str | None
    ) -> Any:
        return await self._context.emit_hook(
            automation_changed,
            told,
            session=session,
            stream=stream_of(told.name),
            expected_version=told.revision - 1,
            actor=by,
            reason=reason,
        )

    def _readable(self, rows: Any) -> list[Automation]:
        found = []
        for row in rows:
            try:
                found.append(_automation(row))
            except UnreadableAutomationError as error:
                if (row.name, row.revision) not in self._told:
                    self._told.add((row.name, row.revision))
                    _log.error("an automation is left out", automation=row.name, error=str(error))
        return found


def _check(name: str, expected: int | None, current: int) -> None:
    if expected is not None and expected != current:
        raise StaleAutomationError(name, expected, current)


def _enabled(definition: Definition, enabled: bool) -> Definition:
    """The definition, enabled or not; what is so by default is not said."""
    wire = {key: value for key, value in definition.to_wire().items() if key != "enabled"}
    return Definition.model_validate(wire if enabled else {**wire, "enabled": False})


def _definition(name: str, revision: int, document: dict[str, Any]) -> Definition:
    try:
        return Definition.model_validate(document)
    except ValidationError as error:
        raise UnreadableAutomationError(name, revision, error) from error


def _automation(row: Any) -> Automation:
    return Automation(
        name=row.name,
        revision=row.revision,
        definition=_definition(row.name, row.revision, row.definition),
        acts_for=row.acts_for,
        token=row.token,
        changed_at=row.updated_at,
        changed_by=row.updated_by,
        position=row.position,
        created_at=row.created_at,
        created_by=row.created_by,
        paused=None if row.definition.get("enabled", True) else row.paused,
    )


def _revision(record: EventRecord) -> Revision:
    payload = AutomationChanged.model_validate(record.payload)
    return Revision(
        name=payload.name,
        revision=record.version,
        definition=_definition(payload.name, record.version, payload.definition),
        acts_for=payload.acts_for,
        token=payload.token,
        changed_at=record.occurred_at,
        changed_by=record.actor or "",
        position=record.position,
    )


def _told(record: EventRecord) -> Told:
    payload = AutomationChanged.model_validate(record.payload)
    return Told(
        revision=record.version,
        change=payload.change,
        acts_for=payload.acts_for,
        definition=payload.definition,
        by=record.actor,
        reason=record.reason,
        at=record.occurred_at,
    )
