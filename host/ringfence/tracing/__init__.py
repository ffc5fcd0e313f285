"""Traces: what belongs together, from a request through events, jobs, satellites and scripts, and back.

Without the extra `traces`, or without a collector that the environment names, nothing of this does anything: a span is
one test for None. Threat: a trace goes to people and systems that may not see what a host keeps. Mechanism: a span has
a name that stands in our code, and as attributes numbers and ids alone; of an error it tells the kind, and no message.
What comes from elsewhere is parsed strictly (`traceparent`), and may at most join traces that do not belong together.
"""

from __future__ import annotations

import contextlib
import enum
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from ringfence.tracing.traceparent import parsed

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

__all__ = ["Kind", "begin", "current", "end", "is_on", "span", "tell"]

_ID = re.compile(r"[A-Za-z0-9_.:/{}-]{1,128}", re.ASCII)
_NOTHING: AbstractContextManager[None] = nullcontext()
_tracer: Tracer | None = None


class Kind(enum.Enum):
    """What a span is of, by the names of OpenTelemetry."""

    SERVER = "SERVER"
    INTERNAL = "INTERNAL"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


def begin(tracer: Tracer) -> None:
    """From now on, make spans with this tracer."""
    global _tracer
    _tracer = tracer


def end() -> None:
    """Make no more spans."""
    global _tracer
    _tracer = None


def is_on() -> bool:
    """Whether spans are made."""
    return _tracer is not None


def current() -> str | None:
    """The traceparent of the span that is under way here, for what is caused by it; None if there is none."""
    if _tracer is None:
        return None
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 1:02x}"


def span(
    name: str,
    parent: str | None = None,
    *,
    kind: Kind = Kind.INTERNAL,
    begins: bool = False,
    **attributes: str | int | None,
) -> AbstractContextManager[None]:
    """A span that lasts as long as the block, beneath `parent`, a traceparent, or else beneath the one under way.

    Without either there is none, unless it `begins` a trace. Attributes that are no numbers or ids are left out.
    """
    if _tracer is None:
        return _NOTHING
    return _span(_tracer, name, parent, kind, begins, attributes)


def tell(**attributes: str | int | None) -> None:
    """Add attributes to the span that is under way here, if there is one."""
    if _tracer is not None:
        from opentelemetry import trace

        trace.get_current_span().set_attributes(_kept(attributes))


@contextlib.contextmanager
def _span(
    tracer: Tracer,
    name: str,
    parent: str | None,
    kind: Kind,
    begins: bool,
    attributes: dict[str, str | int | None],
) -> Iterator[None]:
    from opentelemetry import trace
    from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

    context = None
    if (from_elsewhere := parsed(parent)) is not None:
        trace_id, span_id, flags = from_elsewhere
        remote = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
        context = trace.set_span_in_context(NonRecordingSpan(remote))
    elif not begins and not trace.get_current_span().get_span_context().is_valid:
        yield
        return
    with tracer.start_as_current_span(
        name,
        context=context,
        kind=SpanKind[kind.value],
        attributes=_kept(attributes),
        record_exception=False,
        set_status_on_exception=False,
    ) as made:
        try:
            yield
        except BaseException as error:
            made.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def _kept(attributes: dict[str, str | int | None]) -> dict[str, str | int]:
    return {
        f"ringfence.{key}": value
        for key, value in attributes.items()
        if isinstance(value, int) or (isinstance(value, str) and _ID.fullmatch(value))
    }
