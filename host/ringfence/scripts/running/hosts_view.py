"""What a policy shows of this host, found for a plan, and how a script is told where it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from ringfence.sandbox import SandboxPolicy
from ringfence.sandbox.capabilities.host_sockets import find_sockets
from ringfence.sandbox.capabilities.host_view import look
from ringfence.sandbox.launch.kept import KEPT
from ringfence.sandbox.plan.model import Inputs, Plan
from ringfence.sandbox.wrappers.bottom import EVERYBODY


def looks_at_host(policy: SandboxPolicy) -> bool:
    """Whether there is something of this host that the policy shows or gives."""
    return policy.enabled and (policy.filesystem.shows_host or bool(policy.network.sockets))


def with_host(inputs: Inputs, policy: SandboxPolicy, *, within: SandboxPolicy | None = None) -> Inputs:
    """The inputs of a plan with what there is of the host that a policy shows, and of its sockets that it gives.

    With `within`, it has to be a part of what that policy shows. It takes as long as file systems take to answer: not
    for an event loop.
    """
    if not looks_at_host(policy):
        return inputs
    named = policy.privilege.uid
    uid = named if named is not None and os.geteuid() == 0 else EVERYBODY
    kept = KEPT.paths()
    return replace(
        inputs,
        host=look(policy.filesystem, kept, uid=uid, within=None if within is None else within.filesystem)
        if policy.filesystem.shows_host
        else None,
        sockets=find_sockets(policy.network.sockets, kept, uid=uid),
    )


def place_of_the_host(plan: Plan) -> Mapping[str, str]:
    """The variables by which monitoring programs find the host's `/proc` and `/sys`, if a run is shown them."""
    return {"HOST_PROC": "/proc", "HOST_SYS": "/sys"} if plan.host_view else {}
