"""The routes of this host: built-in ones, those of plugins, and those that people have written, in this order.

A later one takes the place of an earlier one of the same name; so a built-in one is changed, or switched off.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from pydantic import ValidationError
from ringfence import PluginContext
from ringfence.declaring import Held, held, refuse_if_held
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_notifications.hooks import NotificationSettingsChanged, Subject, notification_settings_changed
from ringfence_notifications.routing.built_in import BUILT_IN
from ringfence_notifications.routing.compiled import CompiledRoute, RouteError, compiled
from ringfence_notifications.routing.route import Route
from ringfence_notifications.service import RouteSource

KIND = "NotificationRoute"
"""What documents call a route."""
_WRITTEN_AT = text("SELECT updated_at FROM notifications_routes WHERE name = :name")
_ALL = text("SELECT name, definition FROM notifications_routes ORDER BY name")
_ADD = text("""
    INSERT INTO notifications_routes (name, definition, updated_by) VALUES (:name, CAST(:definition AS jsonb), :by)
    ON CONFLICT (name) DO NOTHING RETURNING name
""")
_CHANGE = text("""
    UPDATE notifications_routes
       SET definition = CAST(:definition AS jsonb), updated_by = :by, updated_at = clock_timestamp()
     WHERE name = :name AND updated_at = :seen RETURNING name
""")
_REMOVE = text("DELETE FROM notifications_routes WHERE name = :name RETURNING name")
_log = structlog.get_logger("ringfence.notifications")


@dataclass(frozen=True, slots=True)
class KnownRoute:
    """A route, whether somebody has written it here, and whether one that comes without stands behind it."""

    compiled: CompiledRoute
    is_own: bool
    comes_without: bool

    @property
    def route(self) -> Route:
        """The route."""
        return self.compiled.route


class Routes:
    """The routes, and a copy of them."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._copy = context.replica(self._load)

    async def all(self) -> Mapping[str, KnownRoute]:
        """Every route by its name, as this instance knows them. Raises what the database raises."""
        return await self._copy.current()

    async def listed(self) -> Mapping[str, KnownRoute]:
        """Every route by its name, as they are in the database."""
        return await self._load()

    async def written_at(self, name: str) -> dt.datetime | None:
        """When somebody has last written a route of this name here, be it one that this release can read or not."""
        async with self._context.sessions() as session:
            found: dt.datetime | None = (
                await session.execute(_WRITTEN_AT, {"name": name})
            ).scalar_one_or_none()
        return found

    def looks_at(self, hook: str) -> bool:
        """Whether a route looks at events of a hook, as far as this instance knows at this moment."""
        known = self._copy.known()
        return known is None or any(hook in one.route.hooks for one in known.values() if one.route.enabled)

    async def held(self, name: str) -> Held | None:
        """Whether a route is changed elsewhere alone."""
        return await held(self._context, KIND, name)

    def forget_copy(self) -> None:
        """Something was changed: read again what is needed next."""
        self._copy.forget()

    def check(self, route: Route) -> CompiledRoute:
        """The route, ready to be matched. Raises `RouteError`."""
        return compiled(route, self._context.hooks.find)

    async def set(self, session: AsyncSession, route: Route, *, seen: dt.datetime | None, by: str) -> bool:
        """Write a route in place of the one of its name that was written when it was `seen`; None: of none.

        False if that is not so any more.
        """
        await refuse_if_held(self._context, session, KIND, route.name)
        definition = json.dumps(route.model_dump(mode="json", by_alias=True))
        values = {"name": route.name, "definition": definition, "by": by}
        found = (
            await session.execute(_ADD, values)
            if seen is None
            else await session.execute(_CHANGE, {**values, "seen": seen})
        )
        if found.one_or_none() is None:
            return False
        await self._tell(session, route.name, by=by)
        return True

    async def remove(self, session: AsyncSession, name: str, *, by: str) -> bool:
        """Remove what somebody has written under a name; False if that is nothing."""
        await refuse_if_held(self._context, session, KIND, name)
        if (await session.execute(_REMOVE, {"name": name})).one_or_none() is None:
            return False
        await self._tell(session, name, by=by, removed=True)
        return True

    async def _tell(self, session: AsyncSession, name: str, *, by: str, removed: bool = False) -> None:
        fact = NotificationSettingsChanged(subject=Subject.ROUTE, name=name, removed=removed)
        await self._context.emit_hook(notification_settings_changed, fact, session=session, actor=by)

    async def _without(self) -> Sequence[Route]:
        """Those that come with the plugins of this host."""
        found = list(BUILT_IN)
        for source in self._context.services.extensions(RouteSource):
            found += await source.routes()
        return found

    async def _load(self) -> Mapping[str, KnownRoute]:
        async with self._context.sessions() as session:
            rows = (await session.execute(_ALL)).all()
        known = {
            one.name: KnownRoute(self._ready(one), is_own=False, comes_without=True)
            for one in await self._without()
        }
        for row in rows:
            try:
                route = Route.model_validate(row.definition)
            except ValidationError:
                _log.error("a route cannot be read: a newer release wrote it", route=row.name)
                continue
            known[route.name] = KnownRoute(self._ready(route), is_own=True, comes_without=route.name in known)
        return known

    def _ready(self, route: Route) -> CompiledRoute:
        """One that does not fit the hooks of this release any more is shown, and matches nothing."""
        try:
            return self.check(route)
        except RouteError as error:
            _log.error("a route cannot be used", route=route.name, error=str(error))
            return CompiledRoute(route, None, {}, str(error))
