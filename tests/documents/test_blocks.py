"""Every block of the documents is of a kind that is checked, and names commands and options that there are."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from ringfence.documents.reading import documents

from tests.documents.blocks import PAGES, Block, Said, _blocks, blocks
from tests.documents.command_lines import mistake
from tests.documents.statements import SHELLS, Statement, fits, ringfences, statements, whole

BLOCKS = [block for page in PAGES for block in blocks(page)]
SHOWN_ALONE = frozenset({"", "text", "html", "ini", "js", "perl", "nginx", "haproxy"})
"""Languages of blocks that are pictures and files: what they mean is tested where they are used."""

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def check(block: Block) -> None:
    """Fails if the block is nothing of its language, or of a language that nobody checks."""
    match block.language:
        case "json":
            json.loads(block.text)
        case "yaml":
            documents(block.text)
        case "toml":
            tomllib.loads(block.text)
        case "python":
            compile(block.text, block.place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        case language if language in SHELLS:
            list(statements(block)) if block.file is None else list(whole(block.text))
        case language:
            assert language in SHOWN_ALONE, f"{block.place}: say in {__file__} how {language!r} is checked"


@by_page
def test_every_block_is_what_its_language_says(page: Path) -> None:
    for block in blocks(page):
        check(block)


@by_page
def test_every_command_of_a_block_is_one_that_there_is(page: Path) -> None:
    wrong = []
    for block in blocks(page):
        if block.language in SHELLS and block.file is None:
            for statement in statements(block):
                for words in ringfences(statement.text):
                    wrong += [f"{block.place}: {found}" for found in [mistake(words)] if found]
    assert wrong == []


@by_page
def test_every_command_in_the_text_is_one_that_there_is(page: Path) -> None:
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    wrong = []
    for quoted in re.findall(r"`(ringfence [^`]+)`", prose):
        for words in ringfences(" ".join(quoted.split())):
            spoken = [word for word in words if word != "…"]
            wrong += [f"{quoted}: {found}" for found in [mistake(spoken, partly=True)] if found]
    assert wrong == []


@by_page
def test_what_is_said_of_a_block_is_about_something_in_it(page: Path) -> None:
    for block in blocks(page):
        for mark in block.marks:
            assert mark.text, f"{block.place}: {mark.said} says nothing"
            if mark.about:
                texts = [statement.text for statement in statements(block)]
                assert any(text.startswith(mark.about) for text in texts), f"{block.place}: {mark.about}"


def test_there_are_blocks_to_check() -> None:
    assert len(BLOCKS) > 50
    run = [one for one in BLOCKS if one.language in SHELLS and not one.said(Said.NOT_RUN)]
    assert len(run) > 20


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("ringfence satellite list -o json", None),
        ("ringfence satellite list --no-such-option", "no-such-option"),
        ("ringfence satellites list", "no command satellites"),
        ("ringfence satellite", "missing"),
        ("ringfence satellite show", "Missing"),
        ("ringfence satellite show a b", "unexpected extra argument"),
        ("ringfence --url http://127.0.0.1:1 policy show", None),
    ],
)
def test_a_command_that_there_is_not_is_found(line: str, wrong: str | None) -> None:
    found = mistake(shlex.split(line)[1:])
    assert found is None if wrong is None else wrong in str(found)


def test_a_block_has_what_the_comments_before_it_say() -> None:
    markdown = (
        '<!-- A remark. -->\n\n<!-- not run "make run": it goes on -->\n<!-- first: echo a\necho b -->\n'
        "```sh file=a.sh\nmake run\n```\n\n```console\n$ echo c\nc\n```\n"
    )
    first, second = _blocks(Path("page.md"), markdown)
    assert (first.line, first.language, first.file) == (6, "sh", "a.sh")
    assert [(one.said, one.about, one.text) for one in first.marks] == [
        ("not run", "make run", "it goes on"),
        ("first", "", "echo a\necho b"),
    ]
    assert (second.marks, statements(second)) == ((), [Statement("echo c", "c\n")])
    assert first.said(Said.NOT_RUN, "make run") is not None
    assert first.said(Said.NOT_RUN, "make") is None


def test_a_statement_is_the_fewest_lines_that_a_shell_takes_as_a_whole() -> None:
    text = (
        "echo 'a\nb'  # c\n\n# alone\nfor i in 1 2; do\n  echo $i\ndone\ncat <<END\nx\nEND\necho d \\\n  e\n"
    )
    assert list(whole(text)) == [
        "echo 'a\nb'  # c",
        "for i in 1 2; do\n  echo $i\ndone",
        "cat <<END\nx\nEND",
        "echo d \\\n  e",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ringfence run -c 'cat /etc/shadow; id'  # one", ["ringfence", "run", "-c", "cat /etc/shadow; id"]),
        ("ringfence export > all.yaml", None),
        ('ringfence run -c "$X"', None),
        ("RINGFENCE_URL=a ringfence status", None),
        ('ringfence run -c "a; b"', ["ringfence", "run", "-c", "a; b"]),
    ],
)
def test_what_a_shell_makes_nothing_else_of_is_run_without_one(text: str, words: list[str] | None) -> None:
    assert Statement(text).words == words


def test_every_ringfence_of_a_shell_is_found() -> None:
    assert list(ringfences("A=b ringfence status && echo ringfence; x | ringfence apply -f - >out")) == [
        ["status"],
        ["apply", "-f", "-"],
    ]
    assert list(ringfences("ringfence satellite show $(ringfence satellite list -o name)")) == [
        ["satellite", "show"],
        ["satellite", "list", "-o", "name"],
    ]


@pytest.mark.parametrize(
    ("shown", "printed", "fit"),
    [
        ("a … d\n", "a b c d\n", True),
        ("a\n…\nd\n", "a\nb\nc\nd\n", True),
        ("a\n…\nd\n", "a\nd\n", True),
        ("a\n", "a\nb\n", False),
        ("a.c\n", "abc\n", False),
        (
            "id 10f4eb0b-ee7c-42bc-b799-c405d00477f7\n",
            "id 00000000-0000-4000-8000-000000000000\n",
            True,
        ),
    ],
)
def test_output_is_compared_as_a_reader_would(shown: str, printed: str, fit: bool) -> None:
    assert fits(shown, printed) is fit


def test_of_standard_error_a_block_shows_what_it_likes() -> None:
    assert fits("said\na\n", "a\n", "said\nmore\n")
    assert not fits("said\na\n", "a\n", "something else\n")
