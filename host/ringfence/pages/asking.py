"""Asks every plugin for its share of a page of the host's: what needs attention, counts, and what the palette finds.

Threat: one plugin fails, or takes for ever, and nobody sees what the others have to say. Mechanism: some are asked
side by side, each has `SECONDS`, and one that gives no answer, or none that can be shown, is logged and named. Not
covered: code that does not let go of the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

import structlog

from ringfence.pages.declared import Attention, Count, Found, Pages, View
from ringfence.pages.requests import is_own_place
from ringfence.pages.site import Site
from ringfence.tasks import run_within

HOST = "host"
SECONDS = 1.0
SIDE_BY_SIDE = 4
"""Plugins that are asked at once for an overview: more would wait for connections, or open some for this alone."""
MOST_FOUND = 10
MOST_ATTENTION = 20
"""Of each plugin."""
LONGEST_WORDS = 100
_KINDS = ("bad", "warn")

_log = structlog.get_logger("ringfence.pages")
_Asked = TypeVar("_Asked", Attention, Count, Found)
_Said = Sequence[_Asked] | None


class Told(NamedTuple):
    """What the overview shows. `hidden` counts what was left out, `silent` are the plugins that gave no answer."""

    attention: Sequence[Attention]
    hidden: int
    counts: Sequence[Count]
    silent: Sequence[str]


class Asking:
    """The plugins of a site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._took: dict[str, float] = {}
        """How long each plugin took for the last overview."""

    async def overview(self, view: View) -> Told:
        """What needs attention, the heaviest first, and how many there are of what each plugin keeps."""

        async def attention(pages: Pages) -> Sequence[Attention]:
            return () if pages.attention is None else await pages.attention(view)

        async def counts(pages: Pages) -> Sequence[Count]:
            return () if pages.counts is None else await pages.counts(view)

        room = asyncio.Semaphore(SIDE_BY_SIDE)

        async def both(plugin: str, pages: Pages) -> tuple[_Said[Attention], _Said[Count]]:
            # At the same time, so that a plugin may look once for both.
            async with room:
                began = now()
                try:
                    return await asyncio.gather(
                        _asked(plugin, pages, attention, Attention), _asked(plugin, pages, counts, Count)
                    )
                finally:
                    self._took[plugin] = now() - began

        now = asyncio.get_running_loop().time
        # The slowest first, so that nobody waits for it alone in the end. What is shown keeps its order.
        declared = self._site.declared
        asked = sorted(declared, key=lambda plugin: -self._took.get(plugin, 0.0))
        told = dict(
            zip(asked, await asyncio.gather(*(both(one, declared[one]) for one in asked)), strict=True)
        )
        needs = {plugin: told[plugin][0] for plugin in declared}
        numbers = {plugin: told[plugin][1] for plugin in declared}
        shown = [one for said in needs.values() for one in sorted(said or (), key=_urgency)[:MOST_ATTENTION]]
        return Told(
            attention=sorted(shown, key=_urgency),
            hidden=sum(len(said or ()) for said in needs.values()) - len(shown),
            counts=sorted(
                (one for said in numbers.values() for one in said or ()), key=lambda one: -one.weight
            ),
            silent=sorted(plugin for plugin in needs if needs[plugin] is None or numbers[plugin] is None),
        )

    async def find(self, view: View, words: str) -> list[Found]:
        """What has these words in its name; nothing where there are none."""
        words = words.strip()[:LONGEST_WORDS]

        async def share(pages: Pages) -> Sequence[Found]:
            return () if pages.find is None else await pages.find(view, words)

        if not words:
            return []
        found = await asyncio.gather(*(_asked(*one, share, Found) for one in self._site.declared.items()))
        return [one for said in found for one in (said or ())[:MOST_FOUND]]


async def _asked(
    plugin: str, pages: Pages, share: Callable[[Pages], Awaitable[Sequence[_Asked]]], kind: type[_Asked]
) -> _Said[_Asked]:
    """The share of a plugin, None where it gave none."""
    said: list[_Asked] = []

    async def ask() -> None:
        said.extend(_checked(await share(pages), kind))

    try:
        if plugin == HOST:
            # Its own share ends by itself, and has nobody to tell it for it.
            await ask()
        else:
            await run_within(SECONDS, ask(), name=f"{plugin}: its share of a page")
    except TimeoutError as error:
        # Where it was says nothing, and to print that takes longer than the plugin had.
        _log.error("a plugin was left out of a page", plugin=plugin, error=str(error))
        return None
    except Exception as error:
        _log.error("a plugin was left out of a page", plugin=plugin, exc_info=error)
        return None
    return said


def _checked(said: Sequence[_Asked], kind: type[_Asked]) -> Sequence[_Asked]:
    """What a plugin says, if all of it can be shown. Raises `TypeError` and `ValueError`."""
    if kind is Found:
        # Of many lines, one that leads elsewhere takes nothing from the others.
        said = [one for one in said if is_own_place(one.to or "")]
    for one in said:
        if not isinstance(one, kind):
            raise TypeError(
                f"it answered a {type(one).__name__}, which is no ringfence.pages.{kind.__name__}"
            )
        if one.to is not None and not is_own_place(one.to):
            raise ValueError(f"it leads to {one.to!r}, which is no path of this host's pages")
        if isinstance(one, Attention) and one.kind not in _KINDS:
            raise ValueError(f"its attention is of the kind {one.kind!r}: there are {' and '.join(_KINDS)}")
    return said


def _urgency(one: Attention) -> tuple[bool, int, str]:
    return one.kind != "bad", -one.weight, one.text
