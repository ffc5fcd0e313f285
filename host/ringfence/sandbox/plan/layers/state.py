"""The state directory of a run that keeps something for the next one: what holds its bound."""

from __future__ import annotations

from ringfence.sandbox.plan.findings import Findings
from ringfence.sandbox.plan.model import Inputs
from ringfence.sandbox.policy import SandboxPolicy
from ringfence.sandbox.report import Layer

BEST_EFFORT = (
    "best effort: while the script runs, its state directory has no bound of its own; at its end, more than "
    "maxStateBytes is not kept"
)


def state(policy: SandboxPolicy, inputs: Inputs, findings: Findings, *, wrapped: bool) -> None:
    if not inputs.state:
        return
    if not wrapped:
        findings.note(Layer.RESOURCES, BEST_EFFORT)
    elif policy.enabled:
        findings.mechanisms["maxStateBytes"] = (
            "the size of the tmpfs on the state directory; its files are counted by the supervisor"
        )
