"""What a simple index says of a Python package, as HTML (PEP 503) or JSON (PEP 691). Pure.

A page is a stranger's: what cannot be read in it is left out, and what is left in it is text, an address and numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import re2
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion

ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
MOST_FILES = 100_000
LONGEST_TAG = 16 * 1024
LONGEST_NAME, MOST_TAGS = 250, 500
"""How long a file's name may be, and how many tags a wheel may have: no real one has a tenth of that."""

_OF_LINUX = re.compile(r"any|linux_.*|manylinux.*|musllinux.*")
# By a library that takes linear time, whatever it reads.
_TAGS = re2.compile(r"""(?i)<(?:a|base)\s(?:[^<>"']|"[^"]*"|'[^']*')*>""")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class IndexFile:
    """One file of a package, as an index tells of it. `metadata` says that its metadata is beside it (PEP 658)."""

    filename: str
    url: str
    sha256: str | None = None
    size: int | None = None
    requires_python: str | None = None
    yanked: str | bool = False
    metadata: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """What of a package can be installed: its wheels for Linux; `sources` and `others` count what cannot."""

    wheels: tuple[IndexFile, ...]
    sources: int = 0
    others: int = 0


class UnreadablePageError(ValueError):
    """A page is not what an index answers."""


def files_of(content_type: str, body: bytes, url: str) -> tuple[IndexFile, ...]:
    """The files that a page names; `url` is where the page is.

    Raises:
        UnreadablePageError: if it is no page of an index.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind.endswith("json"):
        return _of_json(body, url)
    if kind in ("", "text/html", "application/vnd.pypi.simple.v1+html"):
        return _of_html(body.decode("utf-8", "replace"), url)
    raise UnreadablePageError("it answers with neither HTML nor JSON")


def offer_of(files: Iterable[IndexFile], name: str) -> Offer:
    """What of these files is for Linux and ready to use, the first of each name."""
    wheels: dict[str, IndexFile] = {}
    sources = others = 0
    for file in files:
        if not _is_moderate(file.filename):
            continue
        try:
            found, _, _, tags = parse_wheel_filename(file.filename)
        except (InvalidWheelFilename, InvalidVersion):
            sources += _is_source(file.filename, name)
            continue
        if found != name:
            continue
        if any(_OF_LINUX.fullmatch(tag.platform) for tag in tags):
            wheels.setdefault(file.filename, file)
        else:
            others += 1
    return Offer(tuple(wheels.values()), sources, others)


def page_of(name: str, files: Iterable[IndexFile]) -> bytes:
    """A page of JSON that names these files (PEP 691)."""
    return json.dumps(
        {
            "meta": {"api-version": "1.1"},
            "name": name,
            "versions": [],
            "files": [
                {
                    "filename": file.filename,
                    "url": file.url,
                    "hashes": {"sha256": file.sha256} if file.sha256 else {},
                    "yanked": file.yanked,
                    "core-metadata": file.metadata,
                    **({} if file.size is None else {"size": file.size}),
                    **({} if file.requires_python is None else {"requires-python": file.requires_python}),
                }
                for file in files
            ],
        }
    ).encode()


def _is_moderate(filename: str) -> bool:
    """Whether a name can be read: a wheel's means every combination of its tags, which may be millions."""
    combinations = 1
    for part in filename.removesuffix(".whl").split("-")[-3:]:
        combinations *= part.count(".") + 1
    return len(filename) <= LONGEST_NAME and combinations <= MOST_TAGS


def _is_source(filename: str, name: str) -> bool:
    try:
        return parse_sdist_filename(filename)[0] == name
    except (InvalidSdistFilename, InvalidVersion):
        return False


def _of_json(body: bytes, url: str) -> tuple[IndexFile, ...]:
    try:
        page = json.loads(body)
    except (ValueError, RecursionError):
        raise UnreadablePageError("its JSON cannot be read") from None
    files = page.get("files") if isinstance(page, dict) else None
    if not isinstance(files, list):
        raise UnreadablePageError("its JSON has no list of files")
    return tuple(found for each in files[:MOST_FILES] if (found := _file(each, url)) is not None)


def _file(told: Any, url: str) -> IndexFile | None:
    if not isinstance(told, dict) or not isinstance(told.get("url"), str):
        return None
    filename, size, requires = told.get("filename"), told.get("size"), told.get("requires-python")
    address = _joined(url, told["url"])
    if not isinstance(filename, str) or address is None:
        return None
    yanked, metadata = told.get("yanked", False), told.get("core-metadata", told.get("dist-info-metadata"))
    hashes = told.get("hashes")
    return IndexFile(
        filename,
        address,
        _sha256(hashes.get("sha256")) if isinstance(hashes, Mapping) else None,
        size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None,
        requires if isinstance(requires, str) else None,
        yanked if isinstance(yanked, str | bool) else False,
        bool(metadata),
    )


class _Links(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.base = url
        self.found: list[IndexFile] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        href = told.get("href")
        if not href:
            return
        if tag == "base":
            self.base = _joined(self.base, href) or self.base
        if tag != "a" or (address := _joined(self.base, href)) is None:
            return
        address, fragment = urldefrag(address)
        file = IndexFile(
            unquote(urlsplit(address).path.rpartition("/")[2]),
            address,
            _sha256(fragment.removeprefix("sha256=")) if fragment.startswith("sha256=") else None,
            requires_python=told.get("data-requires-python"),
            metadata=bool({"data-core-metadata", "data-dist-info-metadata"} & told.keys()),
        )
        if "data-yanked" in told:
            file = replace(file, yanked=told["data-yanked"] or True)
        self.found.append(file)


def _of_html(text: str, url: str) -> tuple[IndexFile, ...]:
    links = _Links(url)
    for found in _TAGS.finditer(text):
        # Each by itself: over a whole page of a stranger's, the parser may take time by its square.
        if len(found[0]) <= LONGEST_TAG:
            links.feed(found[0])
        if len(links.found) >= MOST_FILES:
            break
    return tuple(links.found)


def _joined(base: str, href: str) -> str | None:
    try:
        return urljoin(base, href.strip())
    except ValueError:
        return None


def _sha256(text: object) -> str | None:
    return text.lower() if isinstance(text, str) and _SHA256.fullmatch(text.lower()) else None
