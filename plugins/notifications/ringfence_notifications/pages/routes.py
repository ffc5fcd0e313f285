"""One route: which events are told, to whom, and in which words. What is wrong with an expression stands beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from ringfence import PluginContext
from ringfence.declaring import Held
from ringfence.pages import Again, OutdatedFormError, Redirect, View, exact, require_current, version_of
from ringfence.refusals import in_words
from ringfence.web import Problem

from ringfence_notifications.access_rules import AccessRules
from ringfence_notifications.administration.routes import (
    BuiltInRouteError,
    MayNotSeeError,
    RouteAdministration,
    UnknownRouteError,
)
from ringfence_notifications.channels.channels import Channels
from ringfence_notifications.hooks import OWN_NEWS
from ringfence_notifications.routing.compiled import RouteError
from ringfence_notifications.routing.route import Route
from ringfence_notifications.routing.routes import KnownRoute

_TEXTS = ("name", "hook", "filter", "title", "text", "link", "severity", "group", "what")
_NUMBERS = ("windowSeconds", "repeatSeconds", "againSeconds")
_NEW = {
    "filter": "true",
    "what": "events",
    "severity": "warning",
    "windowSeconds": "30",
    "againSeconds": "900",
    "recoveries": "[]",
    "enabled": "yes",
}
_NAME = "A name has lower-case letters, digits and hyphens, at most 63, such as long-builds."


class RoutePages:
    """The pages `/notifications/routes/{name}` and `/notifications/new-route`."""

    def __init__(
        self,
        context: PluginContext,
        administration: RouteAdministration,
        channels: Channels,
        rules: AccessRules,
    ) -> None:
        self._context = context
        self._administration = administration
        self._channels = channels
        self._rules = rules

    async def new(self, view: View) -> Mapping[str, Any]:
        """An empty form."""
        return await self._form(view, None, dict(_NEW), ())

    async def held(self, view: View) -> Held | None:
        """Whether it is changed elsewhere alone."""
        name = view.parameters.get("name")
        return None if name is None else await self._administration.held(name)

    async def show(self, view: View) -> Mapping[str, Any]:
        """A route, as a form for whoever may change it."""
        known = await self._one(view)
        return await self._form(view, known, _given(known.route), known.route.channels or ())

    async def add(self, view: View) -> Redirect | Again:
        """Add a route."""
        return await self._stored(view, None)

    async def change(self, view: View) -> Redirect | Again:
        """Change a route, or write one in place of a built-in one."""
        return await self._stored(view, await self._one(view))

    async def remove(self, view: View) -> Redirect:
        """Remove what somebody has written under the name."""
        name = view.parameters["name"]
        try:
            is_back = await self._administration.remove(name, by=view.principal.name)
        except UnknownRouteError as error:
            raise Problem(404, "No such route", detail=f"{error}.") from None
        except BuiltInRouteError as error:
            raise Problem(409, "The route is built in", detail=f"{error}.") from None
        if is_back:
            return Redirect(f"/notifications/routes/{name}", f"{name} is the built-in route again.")
        return Redirect("/notifications", f"{name} is removed.")

    async def _stored(self, view: View, known: KnownRoute | None) -> Redirect | Again:
        form = dict(view.form)
        if known is not None:
            form["name"] = known.route.name
        chosen = [key.removeprefix("to-") for key, value in form.items() if key.startswith("to-") and value]
        errors: dict[str, str] = {}
        said = _said(form, chosen, errors)

        def check(now: KnownRoute | None) -> None:
            if known is None and now is not None:
                raise RouteError("name", "There is already a route with this name. Change it on its own page")
            if known is not None:
                require_current(form, {} if now is None else _shown(now))

        if not errors:
            try:
                await self._administration.set(said, is_change=False, check=check, by=view.principal)
            except OutdatedFormError:
                shown = await self._form(view, await self._one(view), form, chosen)
                return Again("route.html", {**shown, "changed": True}, status=409)
            except ValidationError as error:
                errors = _errors(error)
            except RouteError as error:
                errors[_field(error.field)] = f"{error.why}."
            except MayNotSeeError as error:
                errors["hook"] = f"{error}."
        if errors:
            shown = await self._form(view, known, form, chosen)
            return Again("route.html", {**shown, "errors": errors})
        name = said["name"]
        return Redirect(f"/notifications/routes/{name}", f"The route {name} is saved.")

    async def _one(self, view: View) -> KnownRoute:
        try:
            return await self._administration.one(view.parameters["name"])
        except UnknownRouteError as error:
            raise Problem(404, "No such route", detail=f"{error}.") from None

    async def _form(
        self, view: View, known: KnownRoute | None, given: Mapping[str, str], chosen: Any
    ) -> Mapping[str, Any]:
        hooks = sorted({one.hook.name for one in self._context.hooks.all()} - OWN_NEWS)
        hook = given.get("hook", "")
        return {
            "known": known,
            "given": {
                key: given.get(key, "") for key in (*_TEXTS, *_NUMBERS, "key", "recoveries", "enabled")
            },
            "hooks": hooks if not hook or hook in hooks else [hook, *hooks],
            # Also one that was removed: without its mark the route would be for all the others.
            "channels": sorted({*(one.name for one in await self._channels.listed()), *chosen}),
            "seen": None if known is None else version_of(_shown(known)),
            "changed": False,
            "chosen": set(chosen),
            "may_manage": view.may(self._rules.manage),
            "errors": {},
        }


def _shown(known: KnownRoute) -> dict[str, str]:
    """All that the form shows of a route."""
    return {**_given(known.route), "to": "\n".join(sorted(known.route.channels or ()))}


def _given(route: Route) -> dict[str, str]:
    """A route as the fields of the form."""
    wire = route.model_dump(mode="json", by_alias=True)
    texts = {key: str(wire[key]) for key in _TEXTS}
    numbers = {key: "" if wire[key] is None else exact(wire[key]) for key in _NUMBERS}
    return {
        **texts,
        **numbers,
        "key": "\n".join(wire["key"]),
        "recoveries": json.dumps(wire["recoveries"], indent=2, ensure_ascii=False),
        "enabled": "yes" if route.enabled else "",
    }


def _said(form: Mapping[str, str], chosen: list[str], errors: dict[str, str]) -> dict[str, Any]:
    """The form as the API has a route."""
    said: dict[str, Any] = {key: form.get(key, "").strip() for key in _TEXTS}
    for key in _NUMBERS:
        written = form.get(key, "").strip()
        try:
            said[key] = None if key == "repeatSeconds" and not written else float(written)
        except ValueError:
            errors[key] = "Write a number of seconds."
    try:
        said["recoveries"] = json.loads(form.get("recoveries", "").strip() or "[]")
    except (ValueError, RecursionError) as error:
        errors["recoveries"] = f"This is not JSON: {error}."
    said["key"] = [line.strip() for line in form.get("key", "").splitlines() if line.strip()]
    said["channels"] = sorted(chosen) or None
    said["enabled"] = form.get("enabled") == "yes"
    return said


def _field(name: str) -> str:
    return "recoveries" if name.startswith("recover") else name


def _errors(error: ValidationError) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in error.errors(include_url=False, include_input=False):
        name = _field(str(one["loc"][0])) if one["loc"] else "recoveries"
        where = ".".join(str(part) for part in one["loc"][1:])
        words = in_words(one)
        found.setdefault(name, _NAME if name == "name" else f"{where}: {words}." if where else f"{words}.")
    return found
