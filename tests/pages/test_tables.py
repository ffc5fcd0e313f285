"""The rows of tables, which say of each cell what it is and under which words it stands."""

from __future__ import annotations

import re
from collections.abc import Mapping

from markupsafe import Markup, escape
from ringfence.pages.rendering import labelled

HEAD: list[str | Mapping[str, str]] = ["Name", {"words": "A & B", "shown": "<a>A</a>"}, ""]


def test_each_cell_has_its_role_and_the_words_above_its_column() -> None:
    rows = Markup('<tr>\n<th scope="row">x</th>\n<td class="number">1</td>\n<td>go</td></tr>\n')
    assert labelled(rows, HEAD) == (
        '<tr role="row">\n<th scope="row" role="rowheader">x</th>\n'
        '<td class="number" role="cell" data-label="A &amp; B">1</td>\n<td role="cell">go</td></tr>\n'
    )
    twice = labelled(rows + rows, HEAD)
    assert twice == labelled(rows, HEAD) * 2
    more = labelled(Markup("<tr><td>1</td><td>2</td><td>3</td><td>4</td></tr>"), HEAD)
    assert re.findall(' data-label="([^"]*)"', more) == ["Name", "A &amp; B"]


def test_a_cell_with_nothing_in_it_is_marked_and_no_other() -> None:
    for content, is_empty in (
        ("", True),
        (" \n", True),
        ("–", True),
        ("<bdi>–</bdi>", True),
        ("0", False),
        ("– 1", False),
        ("<form></form>", False),
        ("–<p>why</p>", False),
    ):
        rows = labelled(Markup("<tr><td>%s</td></tr>") % Markup(content), HEAD)
        assert (" data-none>" in rows) is is_empty, content


def test_words_of_others_are_no_tags() -> None:
    written = escape("<td>x</td><tr>")
    assert labelled(Markup("<tr><td>{}</td></tr>").format(written), HEAD).count("role=") == 2
