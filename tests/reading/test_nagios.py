"""Performance data and thresholds, as the monitoring plugins' guidelines write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.scripts.reading.metrics import Metric
from ringfence.scripts.reading.nagios import Range, read_data, read_output


def test_performance_data_may_follow_on_every_part_of_the_output() -> None:
    said = read_output(
        "DISK OK - free space: / 3326 MB (56%); | /=2643MB;5948;5958;0;5968\n"
        "/ 15272 MB (77%);\n/boot 68 MB (69%);\n"
        "/var/log 819 MB (84%); | /boot=68MB;88;93;0;98\n/home=69357MB;253404;253409;0;253414\n"
    )
    assert said.message == "DISK OK - free space: / 3326 MB (56%);"
    assert list(said.metrics) == ["/", "/boot", "/home"]
    assert said.metrics["/"] == Metric(2643, "MB", "5948", "5958", 0, 5968)


@pytest.mark.parametrize(
    ("text", "metrics"),
    [
        ("time=0.01s;;;0.000", {"time": Metric(0.01, "s", min=0)}),
        ("'a label'=1.5%;@1:2;~:5;0;100", {"a label": Metric(1.5, "%", "@1:2", "~:5", 0, 100)}),
        ("'it''s'=3c", {"it's": Metric(3, "c")}),
        ("load1=0,05 load5=-1e3", {"load1": Metric(0.05), "load5": Metric(-1000)}),
        ("two words=3 b=4", {"two words": Metric(3), "b": Metric(4)}),
        ("a=1;;;;;;; b=2", {"a": Metric(1), "b": Metric(2)}),
        ("  ", {}),
    ],
)
def test_performance_data_is_read(text: str, metrics: dict[str, Metric]) -> None:
    assert read_data(text) == (metrics, ())


@pytest.mark.parametrize(
    ("text", "word"),
    [("size=U;1;2", "size"), ("x=abc", "abc"), ("x=1e999", "finite"), ("noise", "no performance data")],
)
def test_what_cannot_be_read_is_named_and_the_rest_is_read(text: str, word: str) -> None:
    metrics, (fault,) = read_data(f"a=1 {text}")
    assert metrics == {"a": Metric(1)}
    assert word in fault


@pytest.mark.parametrize(
    ("text", "alerts", "well"),
    [
        ("10", (-1, 10.1), (0, 10)),
        ("10:", (9,), (10, 1e9)),
        ("~:10", (11,), (-1e9, 10)),
        ("10:20", (9, 21), (10, 20)),
        ("@10:20", (10, 20), (9, 21)),
        ("@~:3", (-5, 3), (4,)),
        (":5", (-1, 6), (0, 5)),
    ],
)
def test_a_threshold_is_a_range(text: str, alerts: tuple[float, ...], well: tuple[float, ...]) -> None:
    threshold = Range.read(text)
    assert all(map(threshold.alerts, alerts))
    assert not any(map(threshold.alerts, well))


@pytest.mark.parametrize("text", ["", "@", "a", "1:2:3", "20:10", "10 20", "~"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="range"):
        Range.read(text)


def test_a_threshold_that_is_no_range_is_left_out_and_named() -> None:
    metrics, faults = read_data("a=1;2:1;@3 b=2;x")
    assert metrics == {"a": Metric(1, crit="@3"), "b": Metric(2)}
    assert faults == ("the threshold '2:1' of a", "the threshold 'x' of b")


@given(st.text(alphabet="ab'=|;:@~U%1.,e-\n \t", max_size=200))
def test_whatever_is_printed_is_read_without_a_fault_of_ours(text: str) -> None:
    read_output(text)
