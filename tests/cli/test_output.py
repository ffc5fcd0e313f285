"""What comes from elsewhere cannot take over a terminal."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.cli import output

from tests.cli.instances import RINGFENCE


@given(st.text())
def test_no_control_character_is_printed_but_newline_and_tab(text: str) -> None:
    shown = output.plain(text)
    assert not {
        character
        for character in shown
        if unicodedata.category(character) in {"Cc", "Cf", "Cs"} and character not in "\n\t"
    }


@given(st.text())
def test_a_line_is_one_line(text: str) -> None:
    assert len(output.line(text).splitlines()) <= 1


def test_an_escape_sequence_is_spelled_out() -> None:
    assert output.plain("\x1b]0;owned\x07 \x9b31m \u202e") == r"\x1b]0;owned\x07 \x9b31m \u202e"


def test_markup_is_shown_as_it_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_table(("name",), [("[red]not red[/red] :smile:",)])
    assert "[red]not red[/red] :smile:" in capsys.readouterr().out


@given(st.text())
def test_json_is_ascii_without_controls(text: str) -> None:
    assert all(" " <= character <= "~" for character in json.dumps(text, ensure_ascii=True))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (5, "5 s ago"),
        (60, "1 min ago"),
        (7_200, "2 h ago"),
        (200_000, "2 d ago"),
        (-5, "in 5 s"),
        (-7_200, "in 2 h"),
    ],
)
def test_a_time_says_how_long_ago_it_was(seconds: int, expected: str) -> None:
    now = dt.datetime(2026, 1, 10, 12, 0, tzinfo=dt.UTC)
    assert expected in output.when((now - dt.timedelta(seconds=seconds)).isoformat(), now=now)


@pytest.mark.parametrize(("value", "expected"), [(None, "–"), ("", "–"), ("soon\x1b", r"soon\x1b")])
def test_what_is_no_time_is_shown_as_it_is(value: object, expected: str) -> None:
    assert output.when(value) == expected


@pytest.mark.parametrize("arguments", [("--version",), ("run", "-c", "echo much")], ids=" ".join)
def test_a_disk_that_is_full_is_told_in_a_sentence(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*RINGFENCE, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert ended.returncode == 1
    assert "error: cannot write: no space left on device" in ended.stderr
    assert "fault" not in ended.stderr
