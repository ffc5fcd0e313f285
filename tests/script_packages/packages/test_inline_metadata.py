"""What scripts say in their own text that they import, read as the reference implementation of PEP 723 reads it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence_script_packages.packages.inline_metadata import InlineMetadataError, blocks, read

REFERENCE = r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$"
"""As in the PEP."""

LINES = (
    "# /// script",
    "# /// other",
    "# ///",
    "#",
    "# a",
    "#b",
    "",
    "x = 1",
    "# /// script ",
    "#  b",
    "# /// ",
)


def as_the_reference_reads(source: str) -> list[tuple[str, str]]:
    return [
        (
            found["type"],
            "".join(
                line[2:] if line.startswith("# ") else line[1:]
                for line in found["content"].splitlines(keepends=True)
            ),
        )
        for found in re.finditer(REFERENCE, source)
    ]


@given(st.lists(st.sampled_from(LINES), max_size=12))
def test_any_text_has_the_blocks_that_the_reference_finds(lines: list[str]) -> None:
    source = "\n".join(lines)
    assert blocks(source) == as_the_reference_reads(source)


def test_many_beginnings_without_an_end_are_read_in_one_pass() -> None:
    assert blocks("# /// script\n" * 20_000 + "x\n") == []
    assert len(blocks("# /// script\n# a\n# ///\n\n" * 20_000)) == 20_000


def script(content: str) -> str:
    return "#!/usr/bin/env python3\n# /// script\n" + content + "# ///\nimport requests\n"


def test_dependencies_are_read_in_one_spelling() -> None:
    told = read(
        script('# requires-python = ">=3.11"\n# dependencies = [\n#   "Requests >= 2",\n#   "rich",\n# ]\n')
    )
    assert told is not None
    assert [one.text for one in told.dependencies] == ["requests>=2", "rich"]
    assert told.requires_python == ">=3.11"


@pytest.mark.parametrize(
    "source", ["import requests\n", "# /// other\n# x\n# ///\n", "# /// script\n# x = 1\n"]
)
def test_a_text_without_such_a_block_says_nothing(source: str) -> None:
    assert read(source) is None


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (script("# dependencies = [\n"), "not TOML"),
        (script('# dependencies = "x"\n'), "list of texts"),
        (script("# dependencies = [1]\n"), "list of texts"),
        (script('# dependencies = ["x @ https://a.invalid/x"]\n'), "names an address"),
        (script('# dependencies = ["-r x"]\n'), "not a requirement"),
        (script("# requires-python = 3\n"), "must be a text"),
        (script('# requires-python = "3.11"\n'), "no range of versions"),
        (script("# a = 1\n") + "\n" + script("# a = 1\n"), "several blocks"),
    ],
)
def test_what_cannot_be_understood_is_told(source: str, said: str) -> None:
    with pytest.raises(InlineMetadataError, match=said):
        read(source)
