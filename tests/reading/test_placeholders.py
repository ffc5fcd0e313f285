"""Placeholders: facts are filled in where a script is placed, secrets where it runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.scripts.tasks.placeholders import (
    UnknownPlaceholderError,
    facts_in,
    secrets_in,
    with_facts,
    with_secrets,
)

FACTS = {"satellite.name": "edge-1", "vars.disk_warn": "80", "vars.odd": "{db-password} {{x}}"}
SECRETS = {"db-password": "hunter2", "API_TOKEN": "t"}


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("on {satellite.name} at {vars.disk_warn}%", "on edge-1 at 80%"),
        ("postgres://app:{db-password}@db/{satellite.name}", "postgres://app:hunter2@db/edge-1"),
        ("{{db-password}} is {db-password}", "{db-password} is hunter2"),
        # What others write in braces is left as it is.
        (
            "${HOME} %{http_code} {print $1} {} {1} {a b} {-x}",
            "${HOME} %{http_code} {print $1} {} {1} {a b} {-x}",
        ),
        ('{"a":{"b":[{}]}}', '{"a":{"b":[{}]}}'),
        # What a fact holds is no placeholder.
        ("{vars.odd}", "{db-password} {{x}}"),
    ],
)
def test_what_is_known_is_filled_in(text: str, becomes: str) -> None:
    assert with_secrets(with_facts(text, FACTS), SECRETS) == becomes


def test_what_is_not_known_is_an_error_and_never_an_empty_text() -> None:
    with pytest.raises(UnknownPlaceholderError, match=r"\{vars\.nothing\} is not known"):
        with_facts("{vars.nothing}", FACTS)
    with pytest.raises(UnknownPlaceholderError, match=r"\{other\} is not known"):
        with_secrets("{other}", SECRETS)


def test_the_names_are_told_apart_by_their_dot() -> None:
    texts = ["{satellite.name} {db-password}", "{{escaped}} {vars.x} ${API_TOKEN} {API_TOKEN}"]
    assert facts_in(texts) == {"satellite.name", "vars.x"}
    assert secrets_in(texts) == {"db-password", "API_TOKEN"}


@given(st.text(alphabet="{}ab.$%-_ ", max_size=40))
def test_whatever_a_fact_holds_comes_out_as_it_is(value: str) -> None:
    assert with_secrets(with_facts("<{vars.x}>", {"vars.x": value}), {"a": "A", "b": "B"}) == f"<{value}>"
