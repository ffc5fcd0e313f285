"""A script that a host runs itself is a span of its own, beneath what wants it: a request, or a job."""

from __future__ import annotations

from typing import Any

import pytest
from ringfence.plugins.discovery import discover
from ringfence.testing import PluginFactory

from tests.health_checks.conftest import CHECKS, definition
from tests.primitives import requires
from tests.satellite.conftest import StartInstance, instance, own, start_instance
from tests.satellite.instances import Instance
from tests.tracing.conftest import Spans
from tests.tracing.test_tracing import PARENT, TRACE
from tests.waiting import until

__all__ = ["StartInstance", "instance", "own", "start_instance"]

RUN = "run in the sandbox"
OTHER_TRACE = "b" * 32
AUTOMATION = """
name: greet
steps:
  - id: here
    run_shell: {script: echo hello}
"""


@pytest.fixture
def plugins_under_test() -> PluginFactory:
    return lambda: list(discover())


@requires("user namespaces")
async def test_a_script_on_the_core_is_a_span_of_what_wants_it(instance: Instance, spans: Spans) -> None:
    made = await instance.api.post(CHECKS, json=definition(intervalSeconds=3600))
    assert made.status_code == 201, made.text
    headers = {"traceparent": PARENT}
    ran = await instance.api.post(f"{CHECKS}/{made.json()['id']}/run", headers=headers, timeout=60)
    assert ran.status_code == 200, ran.text
    found: dict[str, Any] = spans.of(TRACE)
    assert found[RUN].parent.span_id == found["HTTP POST"].context.span_id
    assert found[RUN].attributes["ringfence.revision"] == 0

    applied = await instance.api.post("/api/automations/apply", json={"text": AUTOMATION})
    assert applied.is_success, applied.text
    headers = {"traceparent": PARENT.replace(TRACE, OTHER_TRACE)}
    begun = await instance.api.post("/api/automations/automations/greet/runs", json={}, headers=headers)
    assert begun.status_code == 201, begun.text
    await until(lambda: RUN in spans.of(OTHER_TRACE))
    run: Any = spans.of(OTHER_TRACE)[RUN]
    await until(lambda: run.parent.span_id in spans_of_jobs(spans))


def spans_of_jobs(spans: Spans) -> set[int]:
    found = spans.exporter.get_finished_spans()
    return {one.context.span_id for one in found if one.name.startswith("job automations")}
