"""What each format makes of what a script ends with, prints and gives back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ringfence.scripts import Format, Health, Stopped, read
from ringfence.scripts.reading import Assertion, Metric
from ringfence.scripts.reading.verdict import MAX_MESSAGE

from tests.reading.runs import result

HEALTHY, DEGRADED, UNHEALTHY, UNKNOWN = Health.HEALTHY, Health.DEGRADED, Health.UNHEALTHY, Health.UNKNOWN
PYTHON = (
    'Traceback (most recent call last):\n  File "check.py", line 3, in main\n    raise ConnectionError()\n'
)
NODE = "file:///check.mjs:1\nError: db down\n    at main (file:///check.mjs:1:7)\n    at async run (node:x:2:1)\n"


def said(format: Format, *args: Any, **fields: Any) -> tuple[Health, str]:
    verdict = read(result(*args, **fields), format)
    return verdict.status, verdict.message


@pytest.mark.parametrize("state", list(Health))
def test_exit_reads_a_document_with_a_state_as_a_verdict(state: Health) -> None:
    document = {"status": state.value, "message": "so it is", "metrics": {"lag": 1.5}}
    for text in (
        json.dumps(document),
        json.dumps(document, indent=4),
        f"working\n{json.dumps(document)}\n\n",
    ):
        verdict = read(result(stdout=text))
        assert (verdict.status, verdict.message, verdict.metrics) == (
            state,
            "so it is",
            {"lag": Metric(1.5)},
        )
    assert said(Format.EXIT, value=document) == (state, "so it is")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"stdout": "checking\nall good\n\n"}, (HEALTHY, "all good")),
        ({"stderr": "warned\n"}, (HEALTHY, "warned")),
        ({}, (HEALTHY, "")),
        # Somebody else's document is a message.
        ({"stdout": '{"status":"UP"}'}, (HEALTHY, '{"status":"UP"}')),
        ({"stdout": '{"status": ["healthy"]}'}, (HEALTHY, '{"status": ["healthy"]}')),
        ({"stdout": '[{"status": "unhealthy"}]'}, (HEALTHY, '[{"status": "unhealthy"}]')),
        # What is not the last thing is no verdict.
        ({"stdout": '{"status": "degraded"}\ndone'}, (HEALTHY, "done")),
        ({"stdout": 'result: {"status": "degraded", "message": "slow"}'}, (DEGRADED, "slow")),
        ({"stdout": '{"a": {"status": "degraded"}}'}, (HEALTHY, '{"a": {"status": "degraded"}}')),
        (
            {"exit_code": 2, "stdout": "CRITICAL: replication broken\n", "stderr": "psql: warning: x\n"},
            (UNHEALTHY, "CRITICAL: replication broken"),
        ),
        ({"exit_code": 2, "stderr": "a\nno route\n"}, (UNHEALTHY, "no route")),
        ({"exit_code": 2}, (UNHEALTHY, "exit status 2")),
        ({"exit_code": -9}, (UNHEALTHY, "signal 9")),
        (
            {
                "exit_code": 1,
                "stdout": "asking the database\n",
                "stderr": f"{PYTHON}ConnectionError: db down\n",
            },
            (UNHEALTHY, "ConnectionError: db down"),
        ),
        ({"exit_code": 1, "stderr": NODE}, (UNHEALTHY, "Error: db down")),
        ({"exit_code": 1, "value": {"status": "healthy", "message": "I insist"}}, (UNHEALTHY, "I insist")),
        ({"exit_code": 1, "stdout": '{"status": "degraded", "message": "slow"}'}, (UNHEALTHY, "slow")),
        ({"value_error": "the value is not JSON"}, (UNKNOWN, "the value is not JSON")),
        (
            {"exit_code": -9, "stopped": Stopped.TIMEOUT},
            (UNHEALTHY, "stopped: it did not end within its timeout"),
        ),
        ({"exit_code": -9, "stopped": Stopped.MEMORY}, (UNHEALTHY, "stopped: it used more than memoryBytes")),
    ],
)
def test_exit_goes_by_the_exit_status(fields: dict[str, Any], expected: tuple[Health, str]) -> None:
    assert said(Format.EXIT, **fields) == expected


@pytest.mark.parametrize("format", list(Format))
@pytest.mark.parametrize("exit_code", [0, 1, -1, -9])
@pytest.mark.parametrize(
    ("stopped", "words"),
    [
        (Stopped.REFUSED, "refused by the sandbox: network: no namespaces"),
        (Stopped.UNWATCHED, "could not be seen"),
        (Stopped.OTHER, "does not know"),
    ],
)
def test_who_could_not_look_does_not_know(
    format: Format, exit_code: int, stopped: Stopped, words: str
) -> None:
    state, message = said(format, exit_code, stdout='{"status": "healthy"}', stopped=stopped)
    assert state is UNKNOWN
    assert words in message


@pytest.mark.parametrize("format", list(Format))
@pytest.mark.parametrize(
    "stopped", [Stopped.TIMEOUT, Stopped.OUTPUT, Stopped.MEMORY, Stopped.FILES, Stopped.VALUE]
)
def test_a_script_that_was_stopped_at_its_limits_is_unhealthy(format: Format, stopped: Stopped) -> None:
    assert said(format, 0, stdout='{"status": "healthy"}', stopped=stopped)[0] is UNHEALTHY


@pytest.mark.parametrize("state", list(Health))
def test_a_verdict_is_given_or_printed_last(state: Health) -> None:
    document = {"status": state.value, "message": "so it is"}
    assert said(Format.VERDICT, value=document, stdout="noise") == (state, "so it is")
    assert said(Format.VERDICT, stdout=f"noise\n{json.dumps(document, indent=2)}\n") == (state, "so it is")


@pytest.mark.parametrize(
    ("fields", "came"),
    [
        ({}, "gave and printed nothing"),
        ({"stdout": "all good"}, "printed 'all good'"),
        ({"value": False}, "False"),
        ({"value": 2}, "2"),
        ({"value": "healthy"}, "'healthy'"),
        ({"value": []}, "a list"),
        ({"value": {}}, "an empty object"),
        ({"value": {"state": "CRITICAL"}}, "it has 'state'"),
        ({"value": {"status": "UP"}}, "'UP', which is none of healthy, degraded, unhealthy, unknown"),
        ({"value": {"status": "Healthy"}}, "'Healthy'"),
        ({"value": {"status": True}}, "'True'"),
        ({"stdout": '{"state": "CRITICAL"}'}, "it has 'state'"),
        ({"value_error": "the value is not JSON"}, "the value is not JSON"),
    ],
)
def test_what_is_no_verdict_is_a_fault_that_names_what_came(fields: dict[str, Any], came: str) -> None:
    state, message = said(Format.VERDICT, **fields)
    assert state is UNKNOWN
    assert message.startswith("it must give a verdict")
    assert came in message


def test_a_verdict_of_a_script_that_fails_is_unhealthy() -> None:
    assert said(Format.VERDICT, 1, stderr=f"{PYTHON}ConnectionError: db down\n") == (
        UNHEALTHY,
        "ConnectionError: db down",
    )
    assert said(Format.VERDICT, 3, value={"status": "healthy"})[0] is UNHEALTHY


@pytest.mark.parametrize(
    ("exit_code", "state"),
    [(0, HEALTHY), (1, DEGRADED), (2, UNHEALTHY), (3, UNKNOWN), (4, UNKNOWN), (127, UNKNOWN), (-9, UNKNOWN)],
)
def test_a_plugin_says_its_state_by_its_exit_status(exit_code: int, state: Health) -> None:
    verdict = read(result(exit_code, stdout="OK - 12 users |users=12;20;50;0\n"), Format.NAGIOS)
    assert verdict.status is state
    assert "OK - 12 users" in verdict.message
    assert verdict.metrics == {"users": Metric(12, None, "20", "50", 0)}


def test_a_plugin_that_prints_nothing_is_told_by_what_it_complains_of() -> None:
    assert said(Format.NAGIOS, 3, stderr="cannot open the socket\n") == (UNKNOWN, "cannot open the socket")


def test_a_document_is_judged_by_assertions_alone() -> None:
    run = result(stdout='{"db": {"up": true}}')
    assert read(run, Format.JSON).status is UNKNOWN
    assert read(run, Format.JSON, [Assertion.read("json.$.db.up == true")]).status is HEALTHY
    broken = read(run, Format.JSON, [Assertion.read("json.$.db.up == false else degraded")])
    assert (broken.status, broken.message) == (DEGRADED, "json.$.db.up == false else degraded: true")
    assert read(result(stdout="no"), Format.JSON, [Assertion.read("latencyMs < 1")]).status is UNKNOWN
    assert read(result(1, stdout="{}"), Format.JSON, [Assertion.read("latencyMs < 1")]).status is UNHEALTHY


def test_an_exposition_is_read_as_metrics() -> None:
    text = '# TYPE up gauge\nup 1\nhttp_total{code="200",m="a\\"b"} 3 1395066363000\nlost NaN\n'
    verdict = read(result(stdout=text), Format.PROMETHEUS)
    assert verdict.status is HEALTHY
    assert verdict.metrics == {"up": Metric(1), 'http_total{code="200",m="a\\"b"}': Metric(3)}
    assert verdict.notes == ("metrics that are left out: lost (it is not finite)",)
    for broken in ("", "# nothing\n", "this is no exposition\n", 'up{a="b} 1\n', "up NaN\n"):
        assert read(result(stdout=broken), Format.PROMETHEUS).status is UNKNOWN, broken


def test_every_assertion_is_evaluated_and_only_makes_it_worse() -> None:
    run = result(value={"status": "degraded", "message": "slow", "metrics": {"lag": 12, "n": 1}})
    verdict = read(
        run,
        Format.VERDICT,
        [Assertion.read(text) for text in ("metric.lag < 20", "n == 2 else unknown", "lag < 10", "x > 1")],
    )
    assert verdict.status is UNHEALTHY
    assert [one.state for one in verdict.assertions] == [HEALTHY, UNKNOWN, UNHEALTHY, UNKNOWN]
    assert verdict.message == "lag < 10: 12 (and 2 more); slow"
    assert read(run, Format.VERDICT, [Assertion.read("metric.lag < 20")]).status is DEGRADED


def test_what_is_left_out_of_the_metrics_is_named() -> None:
    many: dict[str, Any] = {f"m{number:02}": number for number in range(64)}
    metrics = {"bad": float("nan"), "deep": {"a": 1}, "text": "x", **many, "one_too_many": 1, "n" * 101: 1}
    verdict = read(result(value={"status": "healthy", "metrics": metrics}), Format.VERDICT)
    assert verdict.status is HEALTHY
    assert list(verdict.metrics) == list(many)
    (note,) = verdict.notes
    for name in ("bad (it is not finite)", "deep (", "text (it is a text", "one_too_many (there are more"):
        assert name in note


def test_a_metric_may_say_its_unit_and_bounds() -> None:
    told = {"value": 3, "unit": "s", "warn": 5, "crit": "@5:9", "min": 0, "max": 10}
    verdict = read(result(value={"status": "healthy", "metrics": {"lag": told, "n": 2}}), Format.VERDICT)
    assert verdict.metrics["lag"] == Metric(3, "s", "5", "@5:9", 0, 10)
    assert verdict.to_wire()["metrics"] == {"lag": {**told, "warn": "5"}, "n": 2.0}


def test_what_is_not_text_of_a_line_is_made_so() -> None:
    verdict = read(result(value={"status": "healthy", "message": "a\0b\ud800" + "x" * 1000}), Format.VERDICT)
    assert verdict.message.startswith("a�b�")
    assert len(verdict.message) == MAX_MESSAGE
    verdict = read(result(value={"status": "healthy", "message": {"a": 1}}), Format.VERDICT)
    assert verdict.notes == ("the message is left out: it is no text",)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 200_000 + "1" + "}" * 200_000,
        '{"a": [\n' * 20_000 + "}",
        '{"' * 500_000 + "}",
        "[\n" * 500_000 + "]",
    ],
    ids=["deep", "open", "wide", "lists"],
)
def test_a_document_that_takes_too_long_is_given_up_and_never_taken_for_well(text: str) -> None:
    assert read(result(stdout=text), Format.EXIT).status is UNKNOWN
    assert read(result(stdout=text), Format.VERDICT).status is UNKNOWN


def test_long_output_hides_no_verdict() -> None:
    rows = [{"n": number, "deep": {"a": [1, {"b": 2}]}} for number in range(20_000)]
    document = {"rows": rows, "status": "degraded"}
    for text in (json.dumps(document, indent=2), "noise {\n" * 2000 + json.dumps(document)):
        assert said(Format.EXIT, stdout=text)[0] is DEGRADED
