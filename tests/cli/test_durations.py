"""Spans of time as people type them: the same words in commands, timetables and definitions."""

from __future__ import annotations

import pytest
import typer
from ringfence import spans
from ringfence.cli.given.durations import duration, seconds_of
from ringfence.jobs import JobError
from ringfence.jobs.schedule import Interval, parse
from ringfence.process.errors import UsageMistake


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("90s", 90), ("15m", 900), ("12 h", 43_200), (" 30d ", 2_592_000), ("2w", 1_209_600)),
        *(("1.5h", 5400), ("5m30s", 330), ("1h 30m", 5400)),
    ],
)
def test_a_span_is_read_the_same_everywhere(text: str, seconds: int) -> None:
    assert seconds_of(text) == duration(text) == spans.seconds_of(text) == seconds
    assert parse(text) == Interval(seconds)


@pytest.mark.parametrize("text", ["", "d", "-1d", "5 months", "1e9d", "nan", "inf", "*"])
def test_what_is_no_span_is_refused_in_the_same_words(text: str) -> None:
    for read, error in (
        (seconds_of, UsageMistake),
        (duration, typer.BadParameter),
        (spans.seconds_of, ValueError),
        (parse, JobError),
    ):
        with pytest.raises(error, match="a span of time, such as 30s, 5m, 1h30m or 2d"):
            read(text)


def test_where_a_span_is_meant_a_number_alone_is_seconds() -> None:
    assert [duration(text) for text in ("0.5", "90")] == [0.5, 90]
    with pytest.raises(UsageMistake, match="such as 30s"):
        seconds_of("90")


@pytest.mark.parametrize("text", ["0", "0s", "0d"])
def test_nothing_is_no_span_for_a_command(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="such as 30s"):
        duration(text)
    with pytest.raises(UsageMistake, match="such as 30s"):
        seconds_of(text)
