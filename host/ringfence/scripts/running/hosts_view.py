"""What a policy shows of this host, found for a plan, how a script is told where it is, and which programs may tell."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from ringfence.sandbox import SandboxPolicy
from ringfence.sandbox.capabilities.host_sockets import find_sockets
from ringfence.sandbox.capabilities.host_view import look
from ringfence.sandbox.launch.kept import KEPT
from ringfence.sandbox.plan.furnish import STATE
from ringfence.sandbox.plan.model import Inputs, Plan, Reach
from ringfence.sandbox.policy import FilesystemMode, HostView
from ringfence.sandbox.wrappers.bottom import EVERYBODY
from ringfence.scripts.choosing.programs_inside import Inside
from ringfence.scripts.running.host_tools import Shown


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


def is_outdated(plan: Plan) -> bool:
    """Whether something is gone that a run by this plan was to be shown, or was not to see.

    What is to be covered has to be there: another supervisor's place of a run, say, goes whenever that run ends.
    """
    host = plan.host
    return host is not None and not all(os.path.exists(each.source) for each in (*host.hidden, *host.paths))


def place_of_the_host(plan: Plan) -> Mapping[str, str]:
    """The variables by which monitoring programs find the host's `/proc` and `/sys`, if a run is shown them."""
    return {"HOST_PROC": "/proc", "HOST_SYS": "/sys"} if plan.host_view else {}


def shown_by(plan: Plan) -> Shown | None:
    """What of this host a run sees by its plan; None for one without namespaces, which sees it as any process does."""
    if plan.wrapper is None:
        return None
    views, inside = set(plan.host_view), Inside(plan)
    if plan.filesystem is FilesystemMode.OFF:
        views.add(HostView.DISKS)
    if plan.reach is Reach.HOST:
        views.add(HostView.NETWORK)

    def measures(path: str) -> bool:
        if path == "/":
            return HostView.DISKS in views
        # Nothing is in what stands for a file system.
        witnesses = () if plan.host is None else plan.host.witnesses
        return inside.shows(path) and not any(path.startswith(f"{each.at}/") for each in witnesses)

    def has(path: str) -> bool:
        # What it keeps in its state, it finds again.
        return inside.shows(path) or (plan.state and (path == STATE or path.startswith(f"{STATE}/")))

    sockets = frozenset(each.at for each in plan.sockets)
    return Shown(frozenset(views), has, measures, sockets, os.path.realpath)
