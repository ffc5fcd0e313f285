"""Looks at a built site: every link has to lead somewhere, and nothing may be loaded from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADS = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("object", "data")}
_LOADING_LINKS = frozenset({"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload"})


@dataclass
class _Page(HTMLParser):
    """What one page links to, what it loads, and which places it has."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and _LOADING_LINKS & set(given.get("rel", "").split()):
            self.loads.append(given.get("href", ""))
        self.loads += [value for name, value in given.items() if (tag, name) in _LOADS]


def wrong(site: Path) -> list[str]:
    """All that leads nowhere, or comes from elsewhere, each as a sentence."""
    pages = {path: _read(path) for path in site.rglob("*.html")}
    said: list[str] = []
    for path, page in sorted(pages.items()):
        here = path.relative_to(site)
        said += [f"{here} loads {one}, which is elsewhere" for one in page.loads if _is_elsewhere(one)]
        for target in [*page.links, *page.loads]:
            if _is_elsewhere(target) or target.startswith(("mailto:", "javascript:", "data:")):
                continue
            parts = urlsplit(target)
            there = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            if there.is_dir():
                there /= "index.html"
            # An error page is served below any path, and so names what it loads from the root.
            if here.name == "404.html" and parts.path.startswith("/"):
                continue
            if not there.exists():
                said.append(f"{here} links to {target}, which is not there")
            elif parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].ids:
                said.append(f"{here} links to {target}: there is no such place")
    return said


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text())
    return page


def _is_elsewhere(target: str) -> bool:
    return target.startswith(("http:", "https:", "//"))
