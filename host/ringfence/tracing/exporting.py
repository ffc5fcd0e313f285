"""Where spans go: to the collector that OpenTelemetry's own variables name, by OTLP over HTTP.

Spans wait in a bounded queue and are sent by a thread of their own; a collector that does not answer costs spans, and
nobody's time.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from collections.abc import Iterator

import structlog

from ringfence import tracing

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
FLUSH_SECONDS = 3.0
"""How long a process that stops waits for the last spans to be sent."""
_log = structlog.get_logger("ringfence.tracing")


@contextlib.contextmanager
def exported(service: str) -> Iterator[None]:
    """Send the spans of this process as those of `service` while the block runs, if a collector is named."""
    wanted = any(os.environ.get(name) for name in ENDPOINTS)
    if not wanted or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        _log.warning("a collector is named, but the extra is not installed: pip install 'ringfence[traces]'")
        yield
        return
    release = importlib.metadata.version("ringfence")
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    provider = TracerProvider(
        resource=Resource.create({**named, "service.version": release}), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracing.begin(provider.get_tracer("ringfence", release))
    try:
        yield
    finally:
        tracing.end()
        provider.force_flush(int(FLUSH_SECONDS * 1000))
        provider.shutdown()
