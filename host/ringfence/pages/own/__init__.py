"""The host's own pages, declared as a plugin declares its own: one module a page, and their templates beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ringfence.access import Access, Sessions
from ringfence.pages.asking import Asking
from ringfence.pages.declared import Attention, Count, Found, Pages, View
from ringfence.pages.own.events import EventPages
from ringfence.pages.own.failed_events import FailedEventPages
from ringfence.pages.own.jobs import JobPages
from ringfence.pages.own.overview import OverviewPage
from ringfence.pages.own.plugins import PluginPages
from ringfence.pages.own.sessions import SessionPages
from ringfence.pages.own.standing import Standing
from ringfence.pages.own.this_host import ThisHostPages
from ringfence.pages.own.tokens import TokenPages
from ringfence.plugins.command_line import Plugged
from ringfence.plugins.lifecycle import LoadedPlugin
from ringfence.plugins.runtime import Runtime
from ringfence.web.event_routes import payload_rules

MOST_FOUND = 10


class OwnPages:
    """The host's pages, over one instance."""

    def __init__(
        self,
        runtime: Runtime,
        plugins: Sequence[LoadedPlugin],
        access: Access,
        sessions: Sessions,
        asking: Asking,
        commands: Callable[[], Plugged],
    ) -> None:
        rules = payload_rules(plugins)
        # A page that shows all that happens is made anew by every stored hook that there is.
        every = tuple(sorted(rules))
        self._standing = Standing(runtime, plugins)
        parts = (
            OverviewPage(asking, live=every),
            EventPages(runtime, rules),
            FailedEventPages(runtime),
            JobPages(runtime, live=every),
            PluginPages(runtime, plugins, access, commands, live=every),
            TokenPages(access),
            SessionPages(sessions),
            ThisHostPages(runtime, plugins),
        )
        self._parts = [part.declared() for part in parts]

    def pages(self) -> Pages:
        """All of them."""
        parts = self._parts
        return Pages(
            package="ringfence.pages.own",
            pages=[page for part in parts for page in part.pages],
            actions=[action for part in parts for action in part.actions],
            commands=[command for part in parts for command in part.commands],
            attention=self.attention,
            counts=self.counts,
            find=self.find,
        )

    async def attention(self, view: View) -> Sequence[Attention]:
        """What of the host itself needs somebody."""
        return await self._standing.attention(view)

    async def counts(self, view: View) -> Sequence[Count]:
        """Numbers of the host itself."""
        return await self._standing.counts(view)

    async def find(self, view: View, words: str) -> Sequence[Found]:
        """What the host has by that name."""
        finders = [find for part in self._parts if (find := part.find) is not None]
        found = await asyncio.gather(*(find(view, words) for find in finders))
        return [one for some in found for one in some][:MOST_FOUND]
