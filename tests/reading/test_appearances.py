"""A verdict of another state than healthy is never taken for well, in whatever dress it is printed."""

from __future__ import annotations

import json

import pytest
from ringfence.bounded import storable_document
from ringfence.scripts import Format, Health, read
from ringfence.scripts.reading import Assertion

from tests.reading.runs import result

DEGRADED = '{"status":"degraded"}'
LAID_OUT = '{\n "status":"degraded"\n}\n'
COLOURED = (
    '\x1b[1;39m{\n  \x1b[34;1m"status"\x1b[0m\x1b[1;39m:\x1b[0m \x1b[0;32m"degraded"\x1b[1;39m\n}\x1b[0m\n'
)


@pytest.mark.parametrize(
    "text",
    [
        COLOURED,
        f"{DEGRADED}\x1b[0m\n",
        f"\x1b]0;title\x07{DEGRADED}\x1b(B",
        f"{DEGRADED}\0",
        f"{DEGRADED}\u200b",
        f"checking … {LAID_OUT}",
        f"10%\r100%\r{LAID_OUT}",
        f"\x1e{LAID_OUT}",
        f"hi\n\ufeff{LAID_OUT}",
        'a { b\n> {"message":"}",\n "status":"degraded"}',
    ],
)
@pytest.mark.parametrize("format", [Format.EXIT, Format.VERDICT])
def test_a_verdict_is_read_beside_what_is_not_part_of_it(text: str, format: Format) -> None:
    assert read(result(stdout=text), format).status is Health.DEGRADED


@pytest.mark.parametrize(
    "text",
    [
        str({"status": "degraded"}),
        "{ status: 'degraded' }",
        "{\n  status: 'degraded',\n  metrics: { a: 1 }\n}",
        '{"status":"degraded",}',
        f"{DEGRADED};",
        json.dumps(DEGRADED),
        '{"status" => "unhealthy"}',
        '{"status":"Degraded"}',
        '{"status":"UNHEALTHY "}',
        '{"status":"degraded","status":"healthy"}',
        '{"status":"healthy","status":"degraded"}',
    ],
)
def test_what_only_seems_to_be_a_verdict_is_unknown(text: str) -> None:
    for format in (Format.EXIT, Format.VERDICT):
        assert read(result(stdout=f"checked\n{text}\n"), format).status is Health.UNKNOWN, format


@pytest.mark.parametrize(
    "text",
    [
        "status: degraded mode is off",
        '{"service": {"status": "degraded"}}',
        "if (a) { b }",
        '{"status":"UP"}',
        '{"status":"Healthy"}',
        "INFO {'status': 'degraded'}\nINFO {'a': 1}",
    ],
)
def test_what_is_no_verdict_is_a_message(text: str) -> None:
    assert read(result(stdout=f"{text}\n")).status is Health.HEALTHY


def test_a_value_without_a_state_does_not_hide_what_was_printed() -> None:
    values: tuple[object, ...] = (0, False, [], {"state": "fine"})
    for value in values:
        verdict = read(result(stdout=DEGRADED, value=value))
        assert verdict.status is Health.DEGRADED
        assert "has no status" in verdict.notes[0]


def test_an_exception_that_did_not_end_the_script_is_noted() -> None:
    trace = 'Traceback (most recent call last):\n  File "x", line 1\nValueError: no db\n'
    verdict = read(result(stdout="ok\n", stderr=trace))
    assert verdict.status is Health.HEALTHY
    assert "ValueError: no db" in verdict.notes[0]


@pytest.mark.parametrize(
    ("format", "text"), [(Format.NAGIOS, "OK|up=0 up=1 a=1 a=1"), (Format.PROMETHEUS, "up 0\nup 1\na 1\n")]
)
def test_a_metric_with_two_values_has_none(format: Format, text: str) -> None:
    verdict = read(result(stdout=text), format, [Assertion.read("up == 1")])
    assert verdict.status is Health.UNKNOWN
    assert list(verdict.metrics) == ["a"]
    assert "more than once" in " ".join(verdict.notes)


@pytest.mark.parametrize("format", list(Format))
def test_whatever_is_said_can_be_stored(format: Format) -> None:
    texts = ("OK|x=1\0;;", '{"status":"healthy","a":"\\ud800\\u0000"}', 'a{b="\0"} 1\n')
    claims = [Assertion.read(text) for text in ("json.$.a matches /x/", 'json.$.a != "x"', "json.$..b == 1")]
    for text in texts:
        wire = json.dumps(read(result(stdout=text), format, claims).to_wire(), ensure_ascii=False)
        storable_document(wire).encode()


@pytest.mark.parametrize("shape", ["[", '{"a":', '{"status":[', '{"status":"healthy","metrics":{"a":['])
def test_no_depth_is_too_much(shape: str) -> None:
    claims = [Assertion.read(text) for text in ('json.$ contains "x"', "json.$..a == 1", "json.$ exists")]
    for depth in (90, 400, *range(930, 1000, 3), 5000):
        text = (
            shape * depth
            + "1"
            + "".join("]" if one == "[" else "}" for one in reversed(shape * depth) if one in "[{")
        )
        for format in Format:
            assert (
                read(result(stdout=text), format, claims).status is not Health.HEALTHY
                or format is Format.NAGIOS
            )
