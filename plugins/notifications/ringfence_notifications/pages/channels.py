"""One channel: what is wanted of it, its address, which nobody is shown, and a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from ringfence.declaring import Held
from ringfence.pages import Again, OutdatedFormError, Redirect, View, require_current, version_of
from ringfence.refusals import in_words
from ringfence.web import Problem

from ringfence_notifications.access_rules import AccessRules
from ringfence_notifications.administration.channels import ChannelAdministration
from ringfence_notifications.channels.channel import Channel, ChannelSettings
from ringfence_notifications.pages.overview import stored
from ringfence_notifications.routing.routes import Routes
from ringfence_notifications.service import UnknownChannelError
from ringfence_notifications.severity import Severity

_FIELDS = {"begins": "begins", "ends": "ends", "zone": "zone", "passes": "passes"}


class ChannelPages:
    """The page `/notifications/channels/{name}`."""

    def __init__(self, administration: ChannelAdministration, routes: Routes, rules: AccessRules) -> None:
        self._administration = administration
        self._routes = routes
        self._rules = rules

    async def held(self, view: View) -> Held | None:
        """Whether it is changed elsewhere alone."""
        name = view.parameters.get("name")
        return None if name is None else await self._administration.held(name)

    async def show(self, view: View) -> Mapping[str, Any]:
        """The channel."""
        channel = await self._one(view)
        return {
            "named": channel.name,
            "channel": channel,
            "told": await self._told(channel.name),
            "severities": [one.value for one in Severity],
            "may_manage": view.may(self._rules.manage),
            "given": _given(channel.settings),
            "seen": version_of(_given(channel.settings)),
            "changed": False,
            "errors": {},
            "tested": None,
        }

    async def change(self, view: View) -> Redirect | Again:
        """Change what is wanted of it."""
        shown = await self.show(view)
        form = {key: value.strip() for key, value in view.form.items()}
        given = {key: form.get(key, "") for key in shown["given"]}
        try:
            settings = ChannelSettings.model_validate(_written(form))
        except ValidationError as error:
            errors = _errors(error)
            return Again("channel.html", {**shown, "given": given, "errors": errors})
        said = {field: getattr(settings, field) for field in ChannelSettings.model_fields}
        name = view.parameters["name"]
        try:
            await self._administration.change(
                name,
                said,
                check=lambda now: require_current(view.form, _given(now)),
                by=view.principal.name,
            )
        except OutdatedFormError:
            shown = await self.show(view)
            return Again("channel.html", {**shown, "given": given, "changed": True}, status=409)
        return Redirect(f"/notifications/channels/{name}", f"{name} is changed.")

    async def set_address(self, view: View) -> Redirect | Again:
        """Give it another address, with its settings as they are."""
        shown, name = await self.show(view), view.parameters["name"]
        if errors := await stored(self._administration, name, view):
            return Again("channel.html", {**shown, "errors": errors})
        return Redirect(f"/notifications/channels/{name}", f"{name} has a new address.")

    async def test(self, view: View) -> Again:
        """Send a message now, and say what came of it."""
        shown, name = await self.show(view), view.parameters["name"]
        error = await self._administration.test(name, by=view.principal.name)
        tested = {"error": None if error is None else f"{error}."}
        return Again("channel.html", {**shown, "tested": tested}, status=200)

    async def remove(self, view: View) -> Redirect:
        """Remove it, and forget its address."""
        name = view.parameters["name"]
        try:
            await self._administration.remove(name, by=view.principal.name)
        except UnknownChannelError:
            raise _unknown(name) from None
        return Redirect("/notifications", f"{name} is removed.")

    async def _one(self, view: View) -> Channel:
        name = view.parameters["name"]
        try:
            return await self._administration.one(name)
        except UnknownChannelError:
            raise _unknown(name) from None

    async def _told(self, name: str) -> list[str]:
        """What it is told of."""
        return [
            known.route.what
            for known in (await self._routes.listed()).values()
            if known.route.enabled
            and known.compiled.idle is None
            and (known.route.channels is None or name in known.route.channels)
        ]


def _unknown(name: str) -> Problem:
    return Problem(404, "No such channel", detail=f"There is no channel {name}.")


def _given(settings: ChannelSettings) -> dict[str, str]:
    """What the form's fields begin with."""
    quiet = settings.quiet
    return {
        "enabled": "yes" if settings.enabled else "",
        "atLeast": settings.at_least.value,
        "perHour": str(settings.per_hour),
        "begins": "" if quiet is None else quiet.begins,
        "ends": "" if quiet is None else quiet.ends,
        "zone": "UTC" if quiet is None else quiet.zone,
        "passes": "critical" if quiet is None else quiet.passes.value,
    }


def _written(form: Mapping[str, str]) -> dict[str, Any]:
    """The fields as the API has them. Without a beginning and an end there are no quiet hours."""
    per_hour = form.get("perHour", "")
    quiet = None
    if form.get("begins") or form.get("ends"):
        quiet = {key: form.get(key, "") for key in _FIELDS}
    return {
        "enabled": form.get("enabled") == "yes",
        "atLeast": form.get("atLeast", ""),
        "perHour": int(per_hour)
        if per_hour.isascii() and per_hour.isdigit() and len(per_hour) < 9
        else per_hour,
        "quiet": quiet,
    }


_WORDS = {
    "atLeast": "Choose one of the severities.",
    "perHour": "Write a number from 2 to 1000.",
    "begins": "Write a time such as 22:00, and both the beginning and the end.",
    "ends": "Write a time such as 07:00, and both the beginning and the end.",
    "zone": "There is no such time zone: write one such as Europe/Berlin or UTC.",
    "passes": "Choose one of the severities.",
    "quiet": "Quiet hours must not begin when they end.",
}


def _errors(error: ValidationError) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in error.errors(include_url=False, include_input=False):
        name = str(one["loc"][-1])
        if name == "quiet":
            found["ends"] = _WORDS["quiet"]
        else:
            found[name] = _WORDS.get(name, in_words(one))
    return found
