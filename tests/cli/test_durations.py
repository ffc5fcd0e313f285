"""Lengths of time as people type them."""

from __future__ import annotations

import pytest
import typer
from ringfence.cli.given.durations import duration, seconds_of
from ringfence.process.errors import UsageMistake


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("12 h", 43_200), (" 30d ", 2_592_000), ("2w", 1_209_600)],
)
def test_a_duration_is_read(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0d", "10", "d", "-1d", "1.5h", "5 months", "1e9d"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageMistake, match="such as 12h or 30d"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h", 3600), (" 1d", 86_400), ("0.5", 0.5), ("90", 90), ("1.5h", 5400)],
)
def test_where_a_length_is_meant_a_number_alone_is_seconds(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-5", "5 months", "1e3", "nan", "inf", "5m30s", "*"])
def test_what_is_no_length_is_refused_with_examples(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="30s, 5m, 1h or 1d"):
        duration(text)
