"""Running scripts in real sandboxes, under a policy that the test names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.scripts import RunnerSettings, RunResult, ScriptKind, ScriptRequest, configure, run_under


class RunScript(Protocol):
    async def __call__(
        self, kind: str, script: str | bytes, *, policy: dict[str, Any] | None = None, **request: Any
    ) -> RunResult: ...


@pytest.fixture
def run_script() -> RunScript:
    """Run a script under the shipped default with `policy` over it."""

    async def run(
        kind: str, script: str | bytes, *, policy: dict[str, Any] | None = None, **request: Any
    ) -> RunResult:
        snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, policy or {}))
        return await run_under(snapshot, ScriptRequest(ScriptKind(kind), script, **request))

    return run


@pytest.fixture(autouse=True)
def no_sandbox_waits_for_another_test() -> Iterator[None]:
    """What one test prepared is not what another measures."""
    configure(RunnerSettings(max_concurrent_runs=8, warm_sandboxes=0))
    yield
    configure(RunnerSettings(max_concurrent_runs=8, warm_sandboxes=0))
