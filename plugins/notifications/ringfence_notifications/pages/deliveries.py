"""Messages on pages: what was sent, what waits, and what could not be delivered, with another try."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from ringfence import PluginContext
from ringfence.pages import Redirect, View
from ringfence.web import DEFAULT_LISTED, Problem, cursor, page

from ringfence_notifications.access_rules import AccessRules
from ringfence_notifications.delivery.messages import Messages, Status, place_of
from ringfence_notifications.incidents import suppressed
from ringfence_notifications.links import is_own_page
from ringfence_notifications.words import WHY

DAYS = 7


class DeliveryPages:
    """What pages show of messages."""

    def __init__(self, context: PluginContext, messages: Messages, rules: AccessRules) -> None:
        self._context = context
        self._messages = messages
        self._rules = rules

    async def show(self, view: View) -> Mapping[str, Any]:
        """The messages, the newest first, perhaps of one state or one channel; and what is in none."""
        status = view.query.get("status") or None
        if status is not None and status not in set(Status):
            raise Problem(422, detail="There is no such state of messages.")
        channel = view.query.get("channel", "").strip()[:64] or None
        after = None if view.after is None else place_of(view.after)
        found = await self._messages.listed(
            status=status, channel=channel, after=after, limit=DEFAULT_LISTED + 1
        )
        shown = page(found, DEFAULT_LISTED, lambda one: cursor(one["createdAt"].isoformat(), one["id"]))
        since = view.now.astimezone(dt.UTC).date() - dt.timedelta(days=DAYS - 1)
        async with self._context.sessions() as session:
            lost = await suppressed.listed(session, since)
        return {
            "messages": [
                {**one, "place": one["link"] if is_own_page(one["link"]) else None} for one in shown.entries
            ],
            "next": shown.next,
            "status": status,
            "statuses": [one.value for one in Status],
            "channel": channel,
            "may_manage": view.may(self._rules.manage),
            "lost": [{**one, "why": WHY.get(one["why"], one["why"])} for one in lost[:DEFAULT_LISTED]],
        }

    async def retry(self, view: View) -> Redirect:
        """Have a message that failed sent again."""
        gone = Problem(
            404,
            "No such failed message",
            detail="There is no such message that has failed, and whose channel is still there.",
        )
        try:
            id = UUID(view.parameters["id"])
        except ValueError:
            raise gone from None
        if not await self._messages.retry(id):
            raise gone
        return Redirect("/notifications/messages", "The message is sent again.")

    async def retry_all(self, _: View) -> Redirect:
        """Have all of them sent again whose channels are still there."""
        count = len(await self._messages.retry(None))
        said = f"{count} {'message is' if count == 1 else 'messages are'} sent again."
        return Redirect("/notifications/messages", said)
