"""What a check may claim of a run beside how it ended."""

from __future__ import annotations

import contextlib
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.scripts.reading import Assertion, AssertionSyntaxError, Health, Metric
from ringfence.scripts.reading.assertions import MAX_ASSERTION, Quantity, Seen

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
DOCUMENT = {
    "db": {"up": True, "lag": 3, "nodes": [{"up": True}, {"up": False}], "empty": []},
    "until": "2030-02-01T00:00:00Z",
    "words": ["a", "b"],
    "name": "main",
    "none": None,
}
SEEN = Seen(
    {
        "lag": Metric(12),
        "expires": Metric(20, "d"),
        "slow": Metric(1200, "ms"),
        "size": Metric(3, "GB"),
        "/var log": Metric(80, "%"),
    },
    {"latencyMs": Quantity(400, "ms"), "exitCode": Quantity(0), "stdout": "all ready\nat last\n"},
    lambda: DOCUMENT,
    NOW,
)


def check(text: str) -> Health:
    return Assertion.read(text).check(SEEN).state


@pytest.mark.parametrize(
    "text",
    [
        "metric.lag == 12",
        "lag < 12.5 else degraded",
        "expires > 14d",
        "expires <= 480h",
        "slow == 1200",
        "slow == 1.2s",
        "slow < 2 s",
        "lag > 11s",
        "size > 2.5GiB",
        'metric."/var log" <= 80%',
        "'/var log' < 90",
        "latencyMs <= 500",
        "latencyMs < 0.5s",
        "exitCode == 0",
        "stdout matches /READY/i",
        "stdout matches /^all .*$/",
        'stdout contains "at last"',
        "json.$.db.up == true",
        "json.$.db.lag != 4",
        "json.$.db.nodes[0].up == true",
        "json.$['db']['lag'] < 10",
        "json.$.db.nodes[?@.up == true].up == true",
        "json.$.until > 30d",
        "json.$.until < 32d",
        'json.$.words contains "b"',
        'json.$.name == "main"',
        "json.$.none == null",
        'json.$.none != "x"',
        "json.$.name != null",
        "json.$['name','name'] exists",
        "json.$.db.empty exists",
        "json.$.name matches /^ma/",
    ],
)
def test_it_holds(text: str) -> None:
    assert check(text) is Health.HEALTHY


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("lag < 10", Health.UNHEALTHY),
        ("lag < 10 else degraded", Health.DEGRADED),
        ("lag < 10 else unknown", Health.UNKNOWN),
        ("latencyMs <= 0.3s", Health.UNHEALTHY),
        ("json.$.db.nodes[*].up == true else degraded", Health.DEGRADED),
        ("json.$.none == false", Health.UNHEALTHY),
        ("json.$.nothing exists else degraded", Health.DEGRADED),
        ("nothing exists", Health.UNHEALTHY),
        ("json.$.db.up == 1", Health.UNKNOWN),
        ("json.$.name > 3", Health.UNKNOWN),
        ("json.$.nothing == 1", Health.UNKNOWN),
        ("json.$.db.empty[*] == 1", Health.UNKNOWN),
        ("nothing < 3 else degraded", Health.UNKNOWN),
        ("expires > 3GB", Health.UNKNOWN),
        ('json.$.none == "null"', Health.UNHEALTHY),
        # What is of another kind differs, and nobody meant that.
        ('json.$.db.lag != "3"', Health.UNKNOWN),
        ("json.$.name != false", Health.UNKNOWN),
        ('exitCode != "1"', Health.UNKNOWN),
        ("json.$.none != null", Health.UNHEALTHY),
        ("json.$.nothing != null", Health.UNKNOWN),
    ],
)
def test_it_does_not_hold_or_nobody_knows(text: str, state: Health) -> None:
    assert check(text) is state


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "does not begin"),
        ("lag", "operator"),
        ("lag = 3", "operator"),
        ("lag <", "no value"),
        ("lag < 3 parsecs", "no unit"),
        ("lag < 3 else fine", "else may name"),
        ("lag < 3 else healthy", "else may name"),
        ('lag < "3"', "numbers"),
        ("lag < true", "numbers"),
        ("stdout matches ready", "slashes"),
        ("stdout matches /a(/", "regular expression"),
        ("stdout contains 3", "double quotes"),
        ('stdout contains "a', "double quotes"),
        ("json.db.up == true", "$"),
        ("json.$.db[ == true", "operator"),
        ("json.$.db..[1,2]..x == 1", "only once"),
        ("json.$[?@.a].b[?@.c] == 1", "only once"),
        ("json.$[?match(@.a, '(a+)+')] exists", "functions"),
        ("json.$[?@.a == $.b] exists", "whole document"),
        ("json.$.]x == 1", "operator"),
        ('metric."lag < 3', "quote"),
        ("lag exists 3", "no value"),
        ("lag < 1e999", "too large"),
        ("stdout matches //", "everything"),
        ('stdout contains ""', "empty"),
        ("json.$" + "[0,0,0,0]" * 20 + ".x exists", "may select"),
        ("json.$" + "[*,0]" * 20 + ".x exists", "may select"),
        ("x" * MAX_ASSERTION + " < 1", "at most"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(text: str, word: str) -> None:
    with pytest.raises(AssertionSyntaxError) as refused:
        Assertion.read(text)
    assert word in str(refused.value)


def test_a_document_that_is_not_there_is_unknown() -> None:
    def none() -> object:
        raise LookupError("the script gave no JSON document")

    outcome = Assertion.read("json.$.a == 1").check(Seen({}, {}, none, NOW))
    assert (outcome.state, outcome.actual) == (Health.UNKNOWN, "the script gave no JSON document")


def test_no_expression_takes_for_ever() -> None:
    long = Seen({}, {"stdout": "a" * 200_000 + "!"}, lambda: {"a": [[0] * 500] * 500}, NOW)
    assert Assertion.read(r"stdout matches /^(a+)+$/").check(long).state is Health.UNHEALTHY
    assert Assertion.read("json.$..* == 0").check(long).state is Health.UNKNOWN


@given(st.text(alphabet="abjson.$[]()?@'\"/<>=! 0123d~*\\", max_size=60))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(AssertionSyntaxError):
        Assertion.read(text).check(SEEN)


@pytest.mark.parametrize(
    "text", ["lag < 90%", "json.$.db.lag < 90%", "lag == 12%", "lag >= 0% else degraded"]
)
def test_what_has_no_unit_is_no_percentage_for_certain(text: str) -> None:
    # 0.97 of 1 is below 90, and is no reason to call anything well.
    outcome = Assertion.read(text).check(SEEN)
    assert (outcome.state, "without a unit" in outcome.actual) == ("unknown", True)
