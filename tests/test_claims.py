"""Every sentence of what the docs promise about the sandbox is traced to tests: by the table in `claims.txt`.

Whoever changes docs/limits.md or the README's "What it protects against, and what not" changes the table with it: each
sentence as it stands in the doc, and under it the tests that fail when it stops being true. A sentence that promises
nothing says `none:` and why there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = Path(__file__).with_name("claims.txt")
SECTIONS = {"README.md": "What it protects against, and what not", "docs/limits.md": None}
"""The docs, and which section of each; None is all of it."""


def sentences(markdown: str) -> Iterator[str]:
    """The sentences of paragraphs and list items, and each row of a table. Heads and code are no sentences."""
    text = re.sub(r"^```.*?^```$|<!--.*?-->", "", markdown, flags=re.MULTILINE | re.DOTALL)
    # The heads of columns, and the line of dashes under them.
    text = re.sub(r"^\|.*\n\|[-| ]+$", "", text, flags=re.MULTILINE)
    for block in re.split(r"\n(?=\s*\n|- |\||#)", text):
        line = " ".join(block.split())
        if line.startswith("|"):
            yield " | ".join(cell.strip() for cell in line.strip("|").split("|"))
        elif line and not line.startswith("#"):
            yield from re.split(r"(?<=[.?!])\)? (?=[A-Z`(])", line.removeprefix("- "))


def section(markdown: str, title: str) -> str:
    """What stands under a heading of the second level."""
    return re.split(r"^## ", markdown.partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def told() -> list[str]:
    """Every sentence of the docs that the table has to have."""
    found: list[str] = []
    for name, title in SECTIONS.items():
        text = (ROOT / name).read_text()
        found += sentences(section(text, title) if title else text)
    return found


def table() -> dict[str, list[str]]:
    """The lines under each sentence of the table."""
    entries: dict[str, list[str]] = {}
    for line in TABLE.read_text().splitlines():
        if line.startswith("> "):
            under = entries.setdefault(line.removeprefix("> "), [])
        elif line and not line.startswith("#"):
            under.append(line)
    return entries


def names_of_tests(file: Path) -> set[str]:
    """The names of the tests in a file, those of classes with the class before them."""
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        names |= {
            prefix + one.name
            for one in inner
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and one.name.startswith("test_")
        }
    return names


def test_every_sentence_is_in_the_table() -> None:
    missing = [sentence for sentence in told() if sentence not in table()]
    assert not missing, "write these into tests/claims.txt, with their tests:\n> " + "\n> ".join(missing)


def test_the_table_has_no_sentence_that_the_docs_have_no_more() -> None:
    left = sorted(table().keys() - set(told()))
    assert not left, "these are in tests/claims.txt, and not in the docs any more:\n> " + "\n> ".join(left)


def test_every_sentence_has_tests_that_exist_or_says_why_not() -> None:
    wrong = []
    for sentence, lines in table().items():
        if not lines:
            wrong.append(f"nothing is under: {sentence}")
        for line in lines:
            file, _, name = line.partition("::")
            if not line.startswith("none: ") and not (
                (ROOT / file).is_file() and name in names_of_tests(ROOT / file)
            ):
                wrong.append(f"there is no test {line}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        (
            "# Title\n\nOne. Two\ngoes on.\n\n- Three: `a.b`.\n  Still (of 3.5)?\n",
            ["One.", "Two goes on.", "Three: `a.b`.", "Still (of 3.5)?"],
        ),
        ("| a | b |\n| --- | --- |\n| `c` | d. E |\n", ["`c` | d. E"]),
        ("<!-- No. Sentence. -->\n\nBefore.\n\n```sh\nNot. This\n```\nAfter.\n", ["Before.", "After."]),
    ],
)
def test_sentences_are_what_a_reader_takes_for_them(markdown: str, expected: list[str]) -> None:
    assert list(sentences(markdown)) == expected
