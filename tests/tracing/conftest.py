"""Spans that are kept in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ringfence import tracing

sdk = pytest.importorskip("opentelemetry.sdk.trace")
export = pytest.importorskip("opentelemetry.sdk.trace.export")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")


class Spans:
    """What has been made of spans so far."""

    def __init__(self) -> None:
        self.exporter = memory.InMemorySpanExporter()
        self.provider = sdk.TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(export.SimpleSpanProcessor(self.exporter))

    def of(self, trace_id: str) -> dict[str, object]:
        """The spans of one trace that have ended, by name."""
        return {
            one.name: one
            for one in self.exporter.get_finished_spans()
            if f"{one.context.trace_id:032x}" == trace_id
        }


@pytest.fixture
def spans() -> Iterator[Spans]:
    """Make spans, and keep them."""
    made = Spans()
    tracing.begin(made.provider.get_tracer("test"))
    yield made
    tracing.end()
    made.provider.shutdown()
