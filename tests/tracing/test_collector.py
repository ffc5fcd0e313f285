"""A collector that is sent what a real host and a real agent have made: one trace, without a secret in it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ringfence.plugins.discovery import discover
from ringfence.testing import PluginFactory
from ringfence.tracing.exporting import exported

from tests.primitives import requires
from tests.satellite.conftest import StartInstance, start_instance
from tests.satellite.test_agent_process import agent
from tests.tracing.test_one_trace import put
from tests.tracing.test_tracing import PARENT, TRACE
from tests.waiting import until

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

__all__ = ["StartInstance", "start_instance"]

SECRET, SCRIPT = "s3cret-value-Zw9", "echo scr1pt-Zw9"
AUTOMATION = f"""
name: answer
triggers:
  - hook: sandbox-policy-changed
steps:
  - id: there
    run_shell: {{script: "{SCRIPT}", on: edge-1, secrets: {{WORD: "{{{{ secrets.WORD }}}}"}}}}
"""


class Collector:
    """The spans that were sent here, and all bytes of them."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        self.bytes = b""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    content = gzip.decompress(content)
                collector.take(content)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def take(self, content: bytes) -> None:
        self.bytes += content
        for resource in trace_service.ExportTraceServiceRequest.FromString(content).resource_spans:
            named = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(named["service.name"], one) for one in scope.spans]

    def trace(self) -> dict[tuple[str, str], Any]:
        """The spans of the trace that the tests begin, by who made them and by name."""
        return {(service, one.name): one for service, one in self.spans if one.trace_id.hex() == TRACE}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    made = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return discover


@requires("user namespaces")
@pytest.mark.slow
async def test_from_a_put_by_an_event_and_an_automation_to_a_script_on_a_satellite_and_back(
    start_instance: StartInstance, collector: Collector, tmp_path: Path
) -> None:
    with exported("ringfence-host"):
        instance = await start_instance()
        satellite = await instance.register()
        secret = await instance.api.put("/api/secrets/secrets/WORD", json={"value": SECRET})
        assert secret.is_success, secret.text
        applied = await instance.api.post("/api/automations/apply", json={"text": AUTOMATION})
        assert applied.is_success, applied.text
        async with agent(instance, satellite, tmp_path):
            await instance.until(satellite, lambda one: one["appliedRevision"] == 0)
            await put(instance, {"resources": {"cpuSeconds": 7}}, PARENT)
            wanted = {
                ("ringfence-host", "HTTP PUT"),
                ("ringfence-host", "hear sandbox-policy-changed"),
                ("ringfence-agent", "apply the policy"),
                ("ringfence-host", "satellite has applied the policy"),
                ("ringfence-agent", "run a script"),
                ("ringfence-host", "satellite has run the script"),
            }
            await until(lambda: wanted <= collector.trace().keys())

            async def told() -> dict[tuple[str, str], Any]:
                return collector.trace()

            found = await told()
    by_id = {one.span_id: name for name, one in found.items()}
    parents = {name: by_id.get(one.parent_span_id) for name, one in found.items()}
    apply, run = ("ringfence-agent", "apply the policy"), ("ringfence-agent", "run a script")
    assert parents[apply] == ("ringfence-host", "hear sandbox-policy-changed")
    assert parents["ringfence-host", "satellite has applied the policy"] == apply
    assert parents["ringfence-host", "satellite has run the script"] == run
    assert any(name.startswith("job automations") for _, name in found)
    for planted in (SECRET, "scr1pt-Zw9"):
        assert planted.encode() not in collector.bytes
