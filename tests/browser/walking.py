"""Walks every page of a host by its own list of pages, and by the links on them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from playwright.async_api import Page
from ringfence.host import Host
from ringfence.pages.site import Site

MOST_OF_EACH = 2


class Walk:
    """Goes to each page without a name in its path, and to a few of each that has one, as links lead there."""

    def __init__(self, host: Host, url: str) -> None:
        site: Site = host.app.state.site
        self._url = url
        ordered = sorted(site.pages, key=lambda path: path.replace("{", "~"))
        self._shapes = {path: re.compile(re.sub("{[^}]*}", "[^/]+", path)) for path in ordered}
        self.seen: dict[str, list[str]] = {path: [] for path in ordered}

    @property
    def unreached(self) -> list[str]:
        """The pages that nothing has led to."""
        return [path for path, seen in self.seen.items() if not seen]

    async def pages(self, page: Page) -> AsyncIterator[str]:
        """Have `page` go to each, and yield its path once it is there."""
        waiting = [path for path in self._shapes if "{" not in path]
        for path in waiting:
            if not self._is_new(path):
                continue
            answer = await page.goto(self._url + path)
            assert answer is not None
            assert answer.status == 200, path
            links = await page.evaluate(
                "[...document.querySelectorAll('nav a, main a')].map(one => one.href)"
            )
            waiting += [urlsplit(link).path for link in links if link.startswith(f"{self._url}/")]
            yield path

    def _is_new(self, path: str) -> bool:
        shape = next((shape for shape, form in self._shapes.items() if form.fullmatch(path)), None)
        if shape is None or path in self.seen[shape] or len(self.seen[shape]) >= MOST_OF_EACH:
            return False
        self.seen[shape].append(path)
        return True
