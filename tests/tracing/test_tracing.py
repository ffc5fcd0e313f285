"""Spans: who is whose parent, what they hold, and that nothing is done where nobody wants them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from ringfence import tracing
from ringfence.tracing.traceparent import parsed, well_formed

from tests.tracing.conftest import Spans

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_a_traceparent_is_read_to_the_letter() -> None:
    assert parsed(PARENT) == (int(TRACE, 16), int(SPAN, 16), 1)
    assert parsed(f"00-{TRACE}-{SPAN}-fe") == (int(TRACE, 16), int(SPAN, 16), 0)
    assert well_formed(PARENT) == PARENT


@pytest.mark.parametrize(
    "given",
    [
        None,
        7,
        {"a": 1},
        "",
        PARENT.upper(),
        f" {PARENT}",
        f"{PARENT}\n",
        f"{PARENT}-more",
        f"01-{TRACE}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE[:-1]}\u0661-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01" + "x" * 100_000,
        "00-" + "-" * 52,
    ],
)
def test_what_is_no_traceparent_is_nobodys_parent(given: object) -> None:
    assert parsed(given) is None
    assert well_formed(given) is None


def test_spans_stand_beneath_one_another_and_begin_only_where_they_are_to(spans: Spans) -> None:
    with tracing.span("of nothing"):
        assert tracing.current() is None
    with tracing.span("first", PARENT):
        with tracing.span("second", "no parent", begins=False):
            within = tracing.current()
        assert tracing.current() != within
    found = spans.of(TRACE)
    assert set(found) == {"first", "second"}
    first, second = found["first"], found["second"]
    assert f"{first.parent.span_id:016x}" == SPAN  # type: ignore[attr-defined]
    assert second.parent.span_id == first.context.span_id  # type: ignore[attr-defined]
    assert parsed(within) is not None
    with tracing.span("a trace of its own", begins=True):
        assert str(tracing.current()).split("-")[1] != TRACE


def _fail_within_a_span(secret: str) -> None:
    with tracing.span("it", PARENT, run="r-1", n=3, words=secret, none=None):
        tracing.tell(route="/api/{id}", more=secret)
        raise ValueError(secret)


def test_a_span_holds_ids_and_numbers_and_of_an_error_its_kind(spans: Spans) -> None:
    secret = "a s3cret: that somebody has written"
    with pytest.raises(ValueError, match="s3cret"):
        _fail_within_a_span(secret)
    it = spans.of(TRACE)["it"]
    assert dict(it.attributes) == {"ringfence.run": "r-1", "ringfence.n": 3, "ringfence.route": "/api/{id}"}  # type: ignore[attr-defined]
    assert it.status.description == "ValueError"  # type: ignore[attr-defined]
    assert "s3cret" not in it.to_json()  # type: ignore[attr-defined]


def test_without_a_collector_nothing_is_imported_and_nothing_is_made() -> None:
    assert tracing.span("a", PARENT) is tracing.span("b", begins=True)
    assert tracing.current() is None
    program = (
        "import sys\nfrom ringfence import tracing\nfrom ringfence.tracing.exporting import exported\n"
        "import ringfence.host, ringfence_satellite.agent.process\n"
        "with exported('x'), tracing.span('a', begins=True):\n    tracing.current(); tracing.tell(a=1)\n"
        # Others may have use for the API, which does nothing by itself.
        "print([one for one in sys.modules if one.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"}
    )
    assert done.stdout == "[]\n", done.stderr


def test_a_collector_without_the_extra_is_told_of_and_stops_nobody() -> None:
    program = (
        "import sys\nsys.modules['opentelemetry.sdk'] = None\n"
        "from ringfence import tracing\nfrom ringfence.tracing.exporting import exported\n"
        "with exported('x'):\n    assert not tracing.is_on()\n"
    )
    environ = {"PATH": "/usr/bin:/bin", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr
    assert "pip install 'ringfence[traces]'" in done.stdout
