"""The repository's pages as the site has them: files in blocks have names, and links lead to where pages are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FRONT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""The pages beside `docs/`, and what they are called on the site."""

_COMMENT = re.compile(r"^ *<!--.*?-->\s*?\n", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^( *)```(\w+) (?:file=)?([^\s`]+)$", re.MULTILINE)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def pages() -> dict[str, str]:
    """Every page by its name on the site."""
    found = {path.name: path for path in (ROOT / "docs").glob("*.md")}
    found |= {name: ROOT / path for path, name in FRONT.items()}
    return {name: as_on_the_site(path.read_text(), path) for name, path in sorted(found.items())}


def as_on_the_site(markdown: str, page: Path) -> str:
    """A page's text without what is for tests alone, and with links that lead to other pages of the site."""
    markdown = _COMMENT.sub("", markdown)
    markdown = _FENCE.sub(r'\1```\2 title="\3"', markdown)
    # Code is no place for links.
    parts = re.split(r"(^ *```.*?^ *```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(
        part if number % 2 else _LINK.sub(lambda found: _link(found, page), part)
        for number, part in enumerate(parts)
    )


def _link(found: re.Match[str], page: Path) -> str:
    picture, words, target = found.groups()
    path, _, anchor = target.partition("#")
    if "://" in target or not path or picture:
        return found[0].replace("(docs/", "(")
    there = (page.parent / path).resolve()
    name = _name_of(there)
    if name is None:  # a file or a folder of the repository, which the site has not
        return words
    return f"[{words}]({name}{'#' if anchor else ''}{anchor})"


def _name_of(path: Path) -> str | None:
    if path.parent == ROOT / "docs" and path.suffix == ".md":
        return path.name
    if path.parent == ROOT / "docs" / "reference":
        return f"reference/{path.name}"
    return FRONT.get(str(path.relative_to(ROOT))) if path.is_relative_to(ROOT) else None
