"""For any output, exit status and format: no fault of ours, one of four states, and healthy only by the rule for it.

The rules are written here a second time, as simply as can be, and independently of the code that is tried.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from ringfence.scripts import Format, Health, RunResult, Stopped, read
from ringfence.scripts.reading import Assertion

from tests.reading.runs import result

STATES = ("healthy", "degraded", "unhealthy", "unknown")
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
verdicts = st.fixed_dictionaries(
    {"status": st.sampled_from(STATES) | st.sampled_from(["UP", "OK", "", "Healthy"]) | json_values},
    optional={"message": json_values, "metrics": json_values, "x": json_values},
)
printed = st.one_of(
    st.binary(max_size=60).map(lambda raw: raw.decode(errors="replace")),
    st.text(alphabet='{}[]":,\\ \n\tstatushealthydegraded|=;0123', max_size=80),
    st.builds(
        lambda before, value, indent, after: before + json.dumps(value, indent=indent) + after,
        st.sampled_from(["", "ok\n", "a {", "x ", "[", "\ufeff"]),
        verdicts | json_values,
        st.sampled_from([None, 2]),
        st.sampled_from(["", "\n", " \n\n", "}", "\nend"]),
    ),
)
runs = st.builds(
    result,
    st.sampled_from([0, 0, 0, 1, 2, 3, 4, 127, -1, -9]),
    printed,
    printed,
    value=st.none() | verdicts | json_values,
    value_error=st.none() | st.just("the value is not JSON"),
    stopped=st.none() | st.none() | st.sampled_from(Stopped),
)
assertions = st.lists(
    st.sampled_from(
        ["metric.a < 1", "json.$.x == true", "latencyMs < 5 else degraded", 'stdout contains "a"']
    ),
    max_size=2,
)


def documents(text: str) -> list[Any]:
    """Every JSON object or list with which `text` ends."""
    text = text.rstrip()
    found = []
    for start, letter in enumerate(text):
        if letter in "{[":
            try:
                found.append(json.loads(text[start:]))
            except ValueError:
                continue
    return found


def may_be_healthy(run: RunResult, format: Format) -> bool:
    if run.exit_code != 0 or run.stopped is not None:
        return False
    if format is Format.NAGIOS:
        return True
    given = [run.value] if run.value is not None else documents(run.stdout)
    states = [one["status"] for one in given if isinstance(one, dict) and one.get("status") in STATES]
    if format is Format.EXIT and not states:
        states = [
            one["status"]
            for one in documents(run.stdout)
            if isinstance(one, dict) and one.get("status") in STATES
        ]
    if format is Format.VERDICT:
        return run.value_error is None and "healthy" in states
    if format is Format.EXIT:
        return run.value_error is None and (not states or "healthy" in states)
    if format is Format.JSON:
        return False  # with no assertion; with some, see below
    lines = [line for line in run.stdout.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return bool(lines)


@settings(max_examples=600, deadline=None)
@given(runs, st.sampled_from(Format))
def test_healthy_is_said_only_by_the_rule_of_the_format(run: RunResult, format: Format) -> None:
    verdict = read(run, format)
    assert verdict.status in set(Health)
    if verdict.status is Health.HEALTHY:
        assert may_be_healthy(run, format)
    # What is said can be stored and sent.
    json.dumps(verdict.to_wire(), allow_nan=False).encode()
    verdict.message.encode()


@settings(max_examples=200, deadline=None)
@given(runs, st.sampled_from(Format), assertions)
def test_assertions_never_make_it_better(run: RunResult, format: Format, texts: list[str]) -> None:
    without, checked = read(run, format), read(run, format, [Assertion.read(text) for text in texts])
    assert len(checked.assertions) == (
        0 if run.stopped in {Stopped.REFUSED, Stopped.UNWATCHED, Stopped.OTHER} else len(texts)
    )
    if format is not Format.JSON:
        assert checked.status.severity >= without.status.severity
    if checked.status is Health.HEALTHY:
        assert all(one.held for one in checked.assertions)
        assert run.exit_code == 0


@settings(max_examples=200, deadline=None)
@given(verdicts, st.sampled_from([None, 2]))
def test_a_printed_state_is_read_however_it_is_laid_out(document: dict[str, Any], indent: int | None) -> None:
    status = document["status"]
    verdict = read(result(stdout=f"working\n{json.dumps(document, indent=indent)}\n"), Format.VERDICT)
    known = isinstance(status, str) and status in STATES
    assert verdict.status == (status if known else "unknown")
