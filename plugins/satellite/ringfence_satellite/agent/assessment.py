"""What this machine can enforce of a policy: planned, as for a run, but nothing is run."""

from __future__ import annotations

from ringfence.bounded import cleaned
from ringfence.sandbox import PolicySnapshot
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.plan.decide import plan
from ringfence.sandbox.plan.model import Inputs, Interpreter
from ringfence.scripts.running.hosts_view import with_host

from ringfence_satellite.protocol import MAX_DOWNGRADES, SandboxPolicyApplied, WireDowngrade


def assess(capabilities: Capabilities, snapshot: PolicySnapshot, revision: int) -> SandboxPolicyApplied:
    """The acknowledgement of a policy: the layers that hold for a shell script here, and those that do not.

    Under `onUnavailable: fail` a downgrade means that every run is refused, so that nothing is enforced for
    want of a run; the downgrades say why.
    """
    inputs = with_host(Inputs(Interpreter.SHELL), snapshot.policy)
    report = plan(capabilities, snapshot, inputs).report
    return SandboxPolicyApplied(
        revision=revision,
        enforced=report.enforced.model_dump(mode="json", by_alias=True),
        downgrades=tuple(
            WireDowngrade(layer=cleaned(one.layer, 200), reason=cleaned(one.reason, 2000))
            for one in report.downgrades[:MAX_DOWNGRADES]
        ),
    )
