"""The incidents as people see them: what lasts, what happened, and who has acknowledged what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ringfence import PluginContext
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_notifications.deciding import Why, acknowledged
from ringfence_notifications.hooks import IncidentsChanged, incidents_changed
from ringfence_notifications.incidents import table
from ringfence_notifications.incidents.suppressed import Counts, Reason, count
from ringfence_notifications.severity import Severity

_COLUMNS = """
    incident.id, incident.route, incident.key, incident.severity, incident.title, incident.link, incident.lasts,
    incident.events, incident.began_at, incident.changed_at, incident.acknowledged_at, incident.acknowledged_by,
    ARRAY(SELECT channel FROM notifications_tellings AS telling
           WHERE telling.incident = incident.id AND telling.state ->> 'told_at' IS NOT NULL ORDER BY channel) AS told
"""
_LIST = text(f"""
    SELECT {_COLUMNS} FROM notifications_incidents AS incident
     WHERE (CAST(:after AS bigint) IS NULL OR id < :after) AND (lasts OR NOT CAST(:lasting AS boolean))
     ORDER BY id DESC LIMIT :limit
""")  # noqa: S608
_ONE = text(f"SELECT {_COLUMNS} FROM notifications_incidents AS incident WHERE id = :id")  # noqa: S608
_WORST = text(f"""
    SELECT {_COLUMNS} FROM notifications_incidents AS incident WHERE lasts
     ORDER BY acknowledged_at IS NOT NULL, array_position(CAST(:severities AS text[]), severity) DESC, id DESC
     LIMIT :limit
""")  # noqa: S608
_LASTING_AT = text(f"""
    SELECT {_COLUMNS} FROM notifications_incidents AS incident
     WHERE lasts AND link = :link ORDER BY id DESC LIMIT :limit
""")  # noqa: S608
_LASTING = text("""
    SELECT count(*) AS lasting, count(*) FILTER (WHERE acknowledged_at IS NULL) AS unseen FROM notifications_incidents
     WHERE lasts
""")
_SEARCH = text(f"""
    SELECT {_COLUMNS} FROM notifications_incidents AS incident
     WHERE lasts AND strpos(lower(title), lower(:words)) > 0 ORDER BY id DESC LIMIT :limit
""")  # noqa: S608
_ACK = text("""
    UPDATE notifications_incidents SET acknowledged_at = clock_timestamp(), acknowledged_by = :by
     WHERE id = :id AND lasts RETURNING id
""")


class Incidents:
    """Lists incidents, and takes acknowledgements."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def listed(self, *, lasting: bool, after: int | None, limit: int) -> Sequence[dict[str, Any]]:
        """Incidents as JSON for the API, the newest first; only those that last, if `lasting`."""
        values = {"lasting": lasting, "after": after, "limit": limit}
        async with self._context.sessions() as session:
            return [_to_wire(row) for row in await session.execute(_LIST, values)]

    async def one(self, id: int) -> dict[str, Any] | None:
        """One of them; None if there is none with this id."""
        async with self._context.sessions() as session:
            return await self._one(session, id)

    async def worst(self, *, limit: int) -> Sequence[dict[str, Any]]:
        """What lasts: what nobody has acknowledged first, and of that the worst, and then the newest."""
        values = {"severities": [one.value for one in Severity], "limit": limit}
        async with self._context.sessions() as session:
            return [_to_wire(row) for row in await session.execute(_WORST, values)]

    async def lasting_at(self, link: str, *, limit: int) -> Sequence[dict[str, Any]]:
        """What lasts of what a page shows, the newest first."""
        async with self._context.sessions() as session:
            rows = await session.execute(_LASTING_AT, {"link": link, "limit": limit})
            return [_to_wire(row) for row in rows]

    async def lasting(self) -> tuple[int, int]:
        """How many incidents last, and how many of these nobody has acknowledged."""
        async with self._context.sessions() as session:
            row = (await session.execute(_LASTING)).one()
            return int(row.lasting), int(row.unseen)

    async def search(self, words: str, *, limit: int) -> Sequence[dict[str, Any]]:
        """What lasts with these words in its title, the newest first."""
        async with self._context.sessions() as session:
            rows = await session.execute(_SEARCH, {"words": words, "limit": limit})
            return [_to_wire(row) for row in rows]

    async def acknowledge(self, id: int, *, by: str) -> dict[str, Any] | None:
        """End the reminders of an incident that lasts; answers how it is now, or None if there is none with this id."""
        async with self._context.sessions.begin() as session:
            if (await session.execute(_ACK, {"id": id, "by": by})).one_or_none() is not None:
                stored = await table.of_incidents(session, [id])
                await table.write(
                    session,
                    [
                        replace(one, telling=acknowledged(one.telling))
                        for one in stored
                        if one.telling is not None
                    ],
                )
                fact = IncidentsChanged(incidents=(id,))
                await self._context.emit_hook(incidents_changed, fact, session=session, actor=by)
            return await self._one(session, id)

    async def forget_route(self, session: AsyncSession, route: str) -> None:
        """Have nothing more told of a route that was switched off or removed, and its incidents be over."""
        untold = await table.forget_route(session, route)
        await count(
            session, Counts({Reason(one, route, Why.ROUTE_OFF): events for one, events in untold.items()})
        )

    async def _one(self, session: AsyncSession, id: int) -> dict[str, Any] | None:
        row = (await session.execute(_ONE, {"id": id})).one_or_none()
        return None if row is None else _to_wire(row)


def _to_wire(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "route": row.route,
        "key": list(row.key),
        "severity": row.severity,
        "title": row.title,
        "link": row.link,
        "lasts": row.lasts,
        "events": row.events,
        "beganAt": row.began_at,
        "changedAt": row.changed_at,
        "acknowledgedAt": row.acknowledged_at,
        "acknowledgedBy": row.acknowledged_by,
        "told": list(row.told),
    }
