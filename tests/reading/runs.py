"""Runs as they come out of the sandbox, made by hand."""

from __future__ import annotations

from typing import Any

from ringfence.sandbox import DEFAULT_POLICY, Downgrade, PolicyOrigin, PolicySource, SandboxReport
from ringfence.scripts import RunResult

REPORT = SandboxReport(
    requested=DEFAULT_POLICY,
    origin=PolicyOrigin(source=PolicySource.DEFAULT),
    downgrades=(Downgrade(layer="network", reason="no namespaces"),),
)


def result(exit_code: int = 0, stdout: str = "", stderr: str = "", **fields: Any) -> RunResult:
    return RunResult(exit_code=exit_code, stdout=stdout, stderr=stderr, sandbox=REPORT, **fields)
