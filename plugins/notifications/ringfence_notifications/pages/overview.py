"""The page that everything of notifications begins at, and what the overview and the palette show of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ringfence.pages import Again, Attention, Count, Found, Redirect, View
from ringfence_secrets.service import SecretError

from ringfence_notifications.access_rules import AccessRules
from ringfence_notifications.administration.channels import ChannelAdministration, MayNotUseSecretsError
from ringfence_notifications.channels.address import AddressError
from ringfence_notifications.channels.channel import Channel, is_channel_name
from ringfence_notifications.channels.channels import Channels, ChannelTakenError
from ringfence_notifications.delivery.messages import Messages
from ringfence_notifications.delivery.sending import DeliveryError
from ringfence_notifications.incidents.incidents import Incidents
from ringfence_notifications.pages.incidents import with_place
from ringfence_notifications.routing.routes import KnownRoute, Routes

MOST_INCIDENTS = 20
MOST_CHANNELS = 200
MOST_ROUTES = 200
MOST_FOUND = 10
WRONG_NAME = "A name has lower-case letters, digits, - and _, at most 63, such as ops."


class OverviewPages:
    """The page `/notifications`."""

    def __init__(
        self,
        incidents: Incidents,
        messages: Messages,
        channels: Channels,
        administration: ChannelAdministration,
        routes: Routes,
        rules: AccessRules,
    ) -> None:
        self._incidents = incidents
        self._messages = messages
        self._channels = channels
        self._administration = administration
        self._routes = routes
        self._rules = rules

    async def show(self, view: View) -> Mapping[str, Any]:
        """What lasts, the channels, the routes, and how many messages failed."""
        lasting = await self._incidents.worst(limit=MOST_INCIDENTS + 1)
        channels = await self._channels.listed()
        routes = sorted((await self._routes.listed()).values(), key=lambda one: one.route.name)
        return {
            "incidents": [with_place(one) for one in lasting[:MOST_INCIDENTS]],
            "more_incidents": len(lasting) > MOST_INCIDENTS,
            "channels": [_channel(one) for one in channels[:MOST_CHANNELS]],
            "routes": [_route(one) for one in routes[:MOST_ROUTES]],
            "failed": await self._messages.failed(),
            "may_ack": view.may(self._rules.ack),
            "may_manage": view.may(self._rules.manage),
            "back": "/notifications",
            "given": "",
            "errors": {},
        }

    async def add_channel(self, view: View) -> Redirect | Again:
        """Add a channel. Its address comes back in no answer."""
        name, errors = view.form.get("name", "").strip(), dict[str, str]()
        if not is_channel_name(name):
            errors["name"], name = WRONG_NAME, ""
        if not errors:
            errors = await stored(self._administration, name, view, is_new=True)
        if errors:
            return Again("notifications.html", {**await self.show(view), "given": name, "errors": errors})
        return Redirect(
            f"/notifications/channels/{name}", f"{name} is added. Send a test to see whether it arrives."
        )

    async def attention(self, view: View) -> Sequence[Attention]:
        """Messages that nobody got, channels that fail, and what lasts without anybody seeing to it."""
        if not view.may(self._rules.read):
            return ()
        found = []
        if failed := await self._messages.failed():
            words = f"{failed} {'message was' if failed == 1 else 'messages were'} not delivered"
            found.append(
                Attention(f"{words} to anybody.", "/notifications/messages?status=failed", "bad", 70)
            )
        for one in await self._channels.listed():
            if one.fails and one.settings.enabled:
                found.append(
                    Attention(
                        f"The channel {one.name} refuses messages: {one.error}",
                        f"/notifications/channels/{one.name}",
                        "warn",
                        55,
                    )
                )
        return found[:MOST_FOUND]

    async def counts(self, view: View) -> Sequence[Count]:
        """What lasts, and the messages of the last hour."""
        if not view.may(self._rules.read):
            return ()
        lasting, _ = await self._incidents.lasting()
        sent = await self._messages.sent_lately()
        return [
            Count("open incidents", lasting, to="/notifications/incidents?lasting=yes", weight=75),
            Count(
                "messages in the last hour",
                sum(sent),
                to="/notifications/messages",
                last_hour=sent,
                weight=60,
            ),
        ]

    async def find(self, view: View, words: str) -> Sequence[Found]:
        """Incidents to acknowledge, channels and routes."""
        if not view.may(self._rules.read):
            return ()
        wanted = words.lower()
        found = [
            Found(one["title"], f"/notifications/incidents#incident-{one['id']}", "incident")
            for one in await self._incidents.search(words, limit=5)
        ]
        found += [
            Found(name, f"/notifications/channels/{name}", "channel")
            for name in sorted(await self._channels.all())
            if wanted in name
        ]
        found += [
            Found(name, f"/notifications/routes/{name}", "route")
            for name, one in sorted((await self._routes.all()).items())
            if wanted in name or wanted in one.route.what
        ]
        return found[:MOST_FOUND]


async def stored(
    administration: ChannelAdministration, name: str, view: View, *, is_new: bool = False
) -> dict[str, str]:
    """Store the address of a form; answers what is wrong with it, which never says it."""
    try:
        await administration.set(name, view.form.get("address", ""), None, is_new=is_new, by=view.principal)
    except ChannelTakenError:
        return {"name": "There is already a channel with this name. Change its address on its own page."}
    except (AddressError, DeliveryError, SecretError, MayNotUseSecretsError) as error:
        return {"address": f"{error}."}
    return {}


def _channel(one: Channel) -> dict[str, Any]:
    return {"channel": one, "quiet": one.settings.quiet, "fails": one.fails}


def _route(known: KnownRoute) -> dict[str, Any]:
    route = known.route
    return {
        "name": route.name,
        "what": route.what,
        "hook": route.hook,
        "channels": route.channels,
        "state": "off" if not route.enabled else "idle" if known.compiled.idle else "on",
        "idle": known.compiled.idle,
        "is_own": known.is_own,
    }
