"""The pages of this plugin: those of each room, put together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ringfence.pages import Attention, Count, Found, Pages, View

PACKAGE = "ringfence_script_packages.pages"
"""Its folder `templates` has the templates of all rooms."""

T = TypeVar("T")


def together(*rooms: Pages) -> Pages:
    """The pages of several rooms as those of one plugin."""

    async def find(view: View, words: str) -> Sequence[Found]:
        return [one for room in rooms if room.find is not None for one in await room.find(view, words)]

    attention: Callable[[View], Awaitable[Sequence[Attention]]] = _each([room.attention for room in rooms])
    counts: Callable[[View], Awaitable[Sequence[Count]]] = _each([room.counts for room in rooms])
    return Pages(
        package=PACKAGE,
        pages=[one for room in rooms for one in room.pages],
        panels=[one for room in rooms for one in room.panels],
        actions=[one for room in rooms for one in room.actions],
        commands=[one for room in rooms for one in room.commands],
        data=[one for room in rooms for one in room.data],
        attention=attention,
        counts=counts,
        find=find,
    )


def _each(
    asked: Sequence[Callable[[View], Awaitable[Sequence[T]]] | None],
) -> Callable[[View], Awaitable[Sequence[T]]]:
    async def every(view: View) -> Sequence[T]:
        return [one for ask in asked if ask is not None for one in await ask(view)]

    return every
