"""Walks every page of a host by its own list of pages, and by the links on them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Page
from ringfence.host import Host
from ringfence.pages.site import Site

MOST_OF_EACH = 2
LINKS = "[...document.querySelectorAll('nav a, main a')].map(one => one.href)"


def shapes(paths: Sequence[str]) -> dict[str, re.Pattern[str]]:
    """What addresses each declared path stands for; words go before names, as where they are served."""
    ordered = sorted(paths, key=lambda path: path.replace("{", "~"))
    return {path: re.compile(re.sub("{[^}]*}", "[^/]+", path)) for path in ordered}


def declared(shapes: Mapping[str, re.Pattern[str]], address: str) -> str | None:
    """The declared path that an address is of."""
    path = urlsplit(address).path
    return next((shape for shape, form in shapes.items() if form.fullmatch(path)), None)


class Walk:
    """Goes to each page without a name in its path, and to a few of each that has one, as links lead there.

    `find` are words for the palette, which leads to pages, too.
    """

    def __init__(self, host: Host, url: str, *, find: Sequence[str] = ()) -> None:
        site: Site = host.app.state.site
        self._url = url
        self._find = find
        self._shapes = shapes(list(site.pages))
        self.seen: dict[str, list[str]] = {path: [] for path in self._shapes}

    @property
    def unreached(self) -> list[str]:
        """The pages that nothing has led to."""
        return [path for path, seen in self.seen.items() if not seen]

    def is_first(self, path: str) -> bool:
        """Whether a path is the first of its kind."""
        return any(seen[:1] == [path] for seen in self.seen.values())

    async def pages(self, page: Page) -> AsyncIterator[str]:
        """Have `page` go to each, and yield its path once it is there."""
        waiting = [path for path in self._shapes if "{" not in path]
        for words in self._find:
            found: Any = await (await page.request.get(f"{self._url}/find", params={"q": words})).json()
            waiting += [urlsplit(one["to"]).path for one in found["found"]]
        for path in waiting:
            if not self._is_new(path):
                continue
            answer = await page.goto(self._url + path)
            assert answer is not None
            assert answer.status == 200, path
            links = await page.evaluate(LINKS)
            waiting += [urlsplit(link).path for link in links if link.startswith(f"{self._url}/")]
            yield path

    def _is_new(self, path: str) -> bool:
        shape = declared(self._shapes, path)
        if shape is None or path in self.seen[shape] or len(self.seen[shape]) >= MOST_OF_EACH:
            return False
        self.seen[shape].append(path)
        return True
