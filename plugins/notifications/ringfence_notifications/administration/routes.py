"""What administrators do with routes, for the API and the pages alike: checked first, then written and told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ringfence import PluginContext
from ringfence.declaring import Held
from ringfence.web import Principal

from ringfence_notifications.channels.channels import Channels
from ringfence_notifications.incidents.incidents import Incidents
from ringfence_notifications.routing.compiled import CompiledRoute, RouteError
from ringfence_notifications.routing.route import Route
from ringfence_notifications.routing.routes import KnownRoute, Routes


class UnknownRouteError(LookupError):
    """There is no route of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no route {name}")


class BuiltInRouteError(RuntimeError):
    """The route comes with a plugin, and cannot be removed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} comes with a plugin, and cannot be removed: switch it off")


class MayNotSeeError(PermissionError):
    """A route would tell what its author may not see; `rule` is the access rule that they lack."""

    def __init__(self, name: str, rule: str, hook: str) -> None:
        self.rule = rule
        super().__init__(
            f"{name} does not hold the access rule {rule}, with which events of {hook} may be seen"
        )


class RouteAdministration:
    """Writes routes."""

    def __init__(
        self, context: PluginContext, routes: Routes, channels: Channels, incidents: Incidents
    ) -> None:
        self._context = context
        self._routes = routes
        self._channels = channels
        self._incidents = incidents

    async def held(self, name: str) -> Held | None:
        """Whether it is changed elsewhere alone."""
        return await self._routes.held(name)

    async def one(self, name: str) -> KnownRoute:
        """The route of a name, as the database has it. Raises `UnknownRouteError`."""
        found = (await self._routes.listed()).get(name)
        if found is None:
            raise UnknownRouteError(name)
        return found

    async def set(
        self,
        said: Mapping[str, Any],
        *,
        is_change: bool,
        check: Callable[[KnownRoute | None], None] | None = None,
        by: Principal,
    ) -> KnownRoute:
        """Write a route. If it `is_change`, what is not said stays as the route of this name has it.

        What `check` raises of the route of this name until then leaves that as it is.

        Raises:
            UnknownRouteError: if there is none to change.
            pydantic.ValidationError, RouteError: if it is not valid.
            MayNotSeeError: if it would tell what `by` may not see.
        """
        written = None
        while written is None:
            # Somebody else may be faster: then it is looked at again.
            written = await self._written(said, is_change=is_change, check=check, by=by)
        self._routes.forget_copy()
        return KnownRoute(written, is_own=True, comes_without=False)

    async def _written(
        self,
        said: Mapping[str, Any],
        *,
        is_change: bool,
        check: Callable[[KnownRoute | None], None] | None,
        by: Principal,
    ) -> CompiledRoute | None:
        name = str(said.get("name", ""))
        seen = await self._routes.written_at(name)
        known = (await self._routes.listed()).get(name)
        if check is not None:
            check(known)
        if is_change:
            if known is None:
                raise UnknownRouteError(name)
            said = {**known.route.model_dump(mode="json", by_alias=True), **said}
        route = Route.model_validate(said)
        compiled = self._routes.check(route)
        if compiled.idle is not None and route.enabled:
            raise RouteError("hook", compiled.idle)
        if missing := set(route.channels or ()) - {one.name for one in await self._channels.listed()}:
            raise RouteError("channels", f"there is no channel {', '.join(sorted(missing))}")
        self._check_may_see(by, route)
        async with self._context.sessions.begin() as session:
            if not await self._routes.set(session, route, seen=seen, by=by.name):
                return None
            if not route.enabled:
                await self._incidents.forget_route(session, route.name)
        return compiled

    async def remove(self, name: str, *, by: str) -> bool:
        """Remove what somebody has written under a name; answers whether a route that comes with a plugin is back.

        Raises `UnknownRouteError` and `BuiltInRouteError`.
        """
        # One that a newer release has written is not known, and can be removed all the same.
        known = (await self._routes.listed()).get(name)
        async with self._context.sessions.begin() as session:
            removed = await self._routes.remove(session, name, by=by)
            if removed and known is not None and not known.comes_without:
                await self._incidents.forget_route(session, name)
        self._routes.forget_copy()
        if not removed:
            raise UnknownRouteError(name) if known is None else BuiltInRouteError(name)
        return known is not None and known.comes_without

    def _check_may_see(self, by: Principal, route: Route) -> None:
        for name in sorted(route.hooks):
            hook = self._context.hooks.find(name)
            if hook is not None and hook.payload_rule is not None and not by.holds(hook.payload_rule):
                raise MayNotSeeError(by.name, hook.payload_rule, name)
