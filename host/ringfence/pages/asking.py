"""Asks every plugin for its share of a page of the host's: what needs attention, counts, and what the palette finds.

One that fails, or takes too long, is left out and logged: the others' share is shown all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from ringfence.pages.declared import Attention, Count, Found, Pages, View
from ringfence.pages.requests import is_own_place
from ringfence.pages.site import Site

SECONDS = 1.0
MOST_FOUND = 10
"""Of each plugin."""
LONGEST_WORDS = 100

_log = structlog.get_logger("ringfence.pages")
_Asked = TypeVar("_Asked", Attention, Count, Found)


class Asking:
    """The plugins of a site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def attention(self, view: View) -> list[Attention]:
        """What needs attention, the heaviest first."""

        async def share(pages: Pages) -> Sequence[Attention]:
            return () if pages.attention is None else await pages.attention(view)

        return sorted(await self._all(share), key=lambda one: (-one.weight, one.kind, one.text))

    async def counts(self, view: View) -> list[Count]:
        """How many there are of what each plugin keeps."""

        async def share(pages: Pages) -> Sequence[Count]:
            return () if pages.counts is None else await pages.counts(view)

        return await self._all(share)

    async def find(self, view: View, words: str) -> list[Found]:
        """What has these words in its name; nothing where there are none."""
        words = words.strip()[:LONGEST_WORDS]

        async def share(pages: Pages) -> Sequence[Found]:
            found = () if pages.find is None else await pages.find(view, words)
            return [one for one in found if is_own_place(one.to)][:MOST_FOUND]

        return await self._all(share) if words else []

    async def _all(self, share: Callable[[Pages], Awaitable[Sequence[_Asked]]]) -> list[_Asked]:
        async def guarded(plugin: str, pages: Pages) -> Sequence[_Asked]:
            try:
                async with asyncio.timeout(SECONDS):
                    return await share(pages)
            except Exception as error:
                _log.error("a plugin was left out of a page", plugin=plugin, exc_info=error)
                return ()

        shares = await asyncio.gather(*(guarded(*one) for one in self._site.declared.items()))
        return [one for share in shares for one in share]
