"""What the notifications plugin offers to other plugins: they have a person told of something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_notifications.routing.route import Recovery, Route
from ringfence_notifications.severity import Severity

__all__ = ["Notifications", "Recovery", "Route", "RouteSource", "Severity", "UnknownChannelError"]


class UnknownChannelError(LookupError):
    """There is no channel of this name; the message names it and says what to do."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        super().__init__(f"there is no channel {channel}: add it with `ringfence notify add {channel}`")


class Notifications(Protocol):
    """The service: has people told of something by a channel of this host."""

    async def notify(
        self,
        session: AsyncSession,
        *,
        channel: str,
        title: str,
        text: str,
        severity: Severity,
        group: str | None = None,
        link: str | None = None,
    ) -> None:
        """Have a message sent by a channel, if and only if the transaction of `session` is committed.

        It is sent at least once. What comes in short succession with the same `group` becomes one message; the
        channel's quiet hours and its limit hold for it too. The texts must hold no secret.

        Raises:
            UnknownChannelError: if there is no such channel. Nothing was written then.
        """

    async def channels(self) -> Sequence[str]:
        """The names of the channels, in order."""


class RouteSource(Protocol):
    """The extension point: a plugin says which of its events are worth telling people of, and in which words."""

    async def routes(self) -> Sequence[Route]:
        """The routes. Whoever runs the host can change each one, or switch it off."""
