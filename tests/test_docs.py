"""The documents: the files and modules that they name are there, and their links lead somewhere."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest
import typer
from ringfence.cli.app import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FOLDERS = ("host/", "plugins/", "migrations/", "tests/", "benchmarks/", "docs/", "tools/", ".ci/")
ENTRY_POINTS = {"ringfence.plugins.optional", "ringfence.commands"}
"""Groups of entry points, which are named like modules."""


def prose(document: Path) -> str:
    """The document without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def quoted(document: Path, pattern: str) -> list[str]:
    """What stands in backquotes and fits the pattern as a whole."""
    return sorted(set(re.findall(rf"`({pattern})`", prose(document))))


def paths(document: Path) -> list[str]:
    return [name for name in quoted(document, r"[\w./-]+") if name.startswith(FOLDERS)]


def modules(document: Path) -> list[str]:
    found = quoted(document, r"ringfence(?:_\w+)?(?:\.\w+)+")
    return [name for name in found if name not in ENTRY_POINTS and not name.endswith((".toml", ".service"))]


def headings(document: Path) -> set[str]:
    """The names by which a document's headings are linked to: lower-case words, joined by hyphens."""
    found = re.findall(r"^#+ (.*)$", prose(document), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_is_there(document: Path) -> None:
    assert [name for name in paths(document) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_module_that_a_document_names_is_there(document: Path) -> None:
    for name in modules(document):
        pkgutil.resolve_name(name)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_of_a_document_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        other = document.parent / name if name else document
        assert other.exists(), f"{document.name} links to {target}, which is not there"
        assert not heading or heading in headings(other), (
            f"{document.name} links to {target}: no such heading"
        )


def test_the_documents_are_looked_at_as_these_tests_mean_to() -> None:
    architecture = ROOT / "docs" / "architecture.md"
    assert len(paths(architecture)) >= 10
    assert len(modules(architecture)) >= 10
    assert "host/ringfence/sandbox/" in paths(ROOT / "README.md")


def test_every_document_can_be_found_from_the_front_door() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [
        path.name for path in DOCUMENTS if path.name != "README.md" and f"{path.name})" not in readme
    ] == []


def test_a_page_tells_of_every_command_and_of_every_command_below_it() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text()
    told = dict(re.findall(r"^\| `ringfence ([a-z-]+)` \| (.*) \|$", page, re.M))
    root = typer.main.get_command(app)
    commands = {name: root.commands[name] for name in root.commands}  # type: ignore[attr-defined]
    assert set(told) == set(commands)
    for name, command in commands.items():
        below = list(getattr(command, "commands", ()))
        assert [one for one in below if f"`{one}" not in told[name]] == [], name
