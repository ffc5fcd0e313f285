"""The overview: what of all plugins needs somebody first, then their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ringfence.pages.asking import Asking
from ringfence.pages.declared import Page, Pages, View


class OverviewPage:
    """The page."""

    def __init__(self, asking: Asking, *, live: Sequence[str]) -> None:
        self._asking = asking
        self._live = live

    def declared(self) -> Pages:
        """The first page of all."""
        page = Page(
            path="/",
            title="Overview",
            template="overview.html",
            show=self.show,
            group="Now",
            order=0,
            live=self._live,
        )
        return Pages(package="", pages=[page])

    async def show(self, view: View) -> Mapping[str, Any]:
        """What all plugins have told."""
        return (await self._asking.overview(view))._asdict()
