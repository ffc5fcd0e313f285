"""What will be done for one run: a pure decision from capabilities, policy and the run's needs. No I/O.

Each layer is decided by one small function that says what is planned, whether it holds, by which mechanism,
and what is lacking. Under `fail` anything lacking makes a `Refusal`; under `degrade` the plan goes on
without, and reports it.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence

from ringfence.sandbox.capabilities.found import (
    Cgroup,
    InstalledWrapper,
    Missing,
    Node,
    PacketFilter,
    Python,
    Shell,
)
from ringfence.sandbox.capabilities.model import EGRESS, Capabilities
from ringfence.sandbox.plan.findings import Findings
from ringfence.sandbox.plan.layers import uidzero
from ringfence.sandbox.plan.layers.filesystem import filesystem
from ringfence.sandbox.plan.layers.network import network
from ringfence.sandbox.plan.layers.privilege import confinement_of, privilege
from ringfence.sandbox.plan.layers.resources import resources
from ringfence.sandbox.plan.layers.sockets import sockets
from ringfence.sandbox.plan.layers.state import state
from ringfence.sandbox.plan.layers.view import host_view
from ringfence.sandbox.plan.model import Inputs, Interpreter, Plan, Refusal
from ringfence.sandbox.plan.wrapping import can_wrap, why_not_wrapped, wrapper_for
from ringfence.sandbox.policy import (
    FilesystemMode,
    OnUnavailable,
    SandboxPolicy,
)
from ringfence.sandbox.policy.provider import PolicySnapshot
from ringfence.sandbox.report import Downgrade, Enforced, Layer, PolicyOrigin, SandboxReport
from ringfence.sandbox.wrappers.nsjail import Nsjail
from ringfence.sandbox.wrappers.room import Wrapper

CRASHES_ARE_TOLD = (
    "a crash of the script is told to whoever listens on the socket in this host's kernel.core_pattern (without the "
    "script's memory); no limit prevents that"
)


@functools.lru_cache(maxsize=128)
def plan(capabilities: Capabilities, snapshot: PolicySnapshot, inputs: Inputs) -> Plan | Refusal:
    """What to do for one run on such a host under such a policy."""
    policy, findings = snapshot.policy, Findings()
    interpreter = _interpreter(capabilities, inputs.interpreter)
    if policy.enabled:
        for path in snapshot.not_understood:
            findings.lacks(
                path.partition(".")[0],
                f"the policy asks for {path}, which this version does not know: upgrade Ringfence on this machine",
            )
    else:
        findings.note(
            Layer.FILESYSTEM, "the policy turns the sandbox off: the script runs as a plain process"
        )
    wrapped = policy.enabled and can_wrap(capabilities)
    identity, uids = privilege(capabilities, policy, inputs, findings, wrapped=wrapped)
    confinement = None if wrapped else confinement_of(capabilities, policy, interpreter)
    reach, egress, relay = network(capabilities, policy, wrapped, confinement, findings)
    resources(capabilities, policy, wrapped, identity, uids, findings)
    state(policy, inputs, findings, wrapped=wrapped)
    if capabilities.core_pattern.startswith("@"):
        findings.note(Layer.PRIVILEGE, CRASHES_ARE_TOLD)
    filesystem(capabilities, policy, wrapped, confinement, inputs, findings)
    shown, views = host_view(capabilities, policy, inputs.host, uids, findings, wrapped=wrapped)
    given = sockets(capabilities, policy, inputs.sockets, shown, findings, wrapped=wrapped)
    _syscalls(capabilities, policy, wrapped or confinement is not None, findings)
    if policy.enabled and (why := uidzero.at_large(identity.uid, policy.filesystem.mode, wrapped=wrapped)):
        findings.claims_nothing(why, as_asked=wrapped)
    if isinstance(interpreter, Missing):
        findings.lacks(Layer.PRIVILEGE.value, f"the script has no interpreter: {interpreter.reason}")
    not_known = _not_known(capabilities, policy, wrapped, inputs.interpreter) if findings.downgrades else []
    for name, primitive in not_known:
        findings.lacks("sandbox", f"{name} could not be tried this time: {primitive.reason}; try again")
    report = _report(capabilities, snapshot, wrapped, interpreter, findings)
    refuses = policy.on_unavailable is OnUnavailable.FAIL and bool(report.downgrades)
    if refuses or not_known or isinstance(interpreter, Missing):
        return Refusal(report.model_copy(update={"enforced": Enforced(), "mechanisms": {}}))
    layered = wrapped and policy.filesystem.mode is not FilesystemMode.OFF and capabilities.overlay.available
    wrapper = wrapper_for(capabilities) if wrapped else None
    wrapper = None if isinstance(wrapper, Missing) else wrapper
    return Plan(
        wrapper=wrapper,
        identity=identity,
        program=interpreter.path,
        roots=_roots(interpreter, wrapper, capabilities.python),
        filesystem=policy.filesystem.mode if wrapped else FilesystemMode.OFF,
        reach=reach,
        resources=policy.resources,
        limited=policy.enabled and capabilities.rlimits.available,
        filtered=wrapped and capabilities.seccomp.available,
        layout=capabilities.layout,
        packages=inputs.packages if policy.filesystem.mode is FilesystemMode.SCRATCH_PLUS_RO else None,
        report=report,
        egress=egress,
        relay=relay,
        nft=capabilities.nft.path
        if egress is not None and isinstance(capabilities.nft, PacketFilter)
        else None,
        confinement=confinement,
        cgroup=capabilities.cgroup.place if wrapped and isinstance(capabilities.cgroup, Cgroup) else None,
        layered=layered,
        packages_layered=layered and inputs.packages_mount is None,
        uids=uids,
        host=shown,
        host_view=views,
        sockets=given,
        state=inputs.state,
    )


def _not_known(
    capabilities: Capabilities, policy: SandboxPolicy, wrapped: bool, interpreter: Interpreter
) -> list[tuple[str, Missing]]:
    """What a run that lacks something may lack only for now, and so does without under no policy."""
    others = {str(each) for each in Interpreter} - {interpreter.value}
    if not policy.enabled:
        needed: Collection[str] = {interpreter.value}
    elif wrapped:
        link = () if policy.network.denies_everything else EGRESS
        needed = {"networkNamespaces", "identityDrop", "rlimits", "seccomp", interpreter.value, *link}
    else:
        # Landlock may stand in for the wrapper, and is told what to do by Python.
        needed = {name for name, _ in capabilities.primitives()} - (others - {"python"}) - {"cgroup"}
    return [(name, each) for name, each in capabilities.may_pass() if name in needed]


def _interpreter(capabilities: Capabilities, wanted: Interpreter) -> Shell | Python | Node | Missing:
    interpreters: dict[Interpreter, Shell | Python | Node | Missing] = {
        Interpreter.SHELL: capabilities.shell,
        Interpreter.PYTHON: capabilities.python,
        Interpreter.NODE: capabilities.node,
    }
    return interpreters[wanted]


def _roots(
    interpreter: Shell | Python | Node, wrapper: Wrapper | None, python: Python | Missing
) -> tuple[str, ...]:
    """The directories of the host that the run's programs are in."""
    loading = python.roots if isinstance(wrapper, Nsjail) and isinstance(python, Python) else ()
    return tuple(dict.fromkeys((*interpreter.roots, *loading)))


def _syscalls(capabilities: Capabilities, policy: SandboxPolicy, loaded: bool, findings: Findings) -> None:
    if not policy.enabled:
        return
    if loaded and capabilities.seccomp.available:
        findings.holds(Layer.SYSCALLS, syscalls="seccomp filter and no_new_privs")
    elif isinstance(capabilities.seccomp, Missing):
        findings.lacks(Layer.SYSCALLS, f"system calls are not filtered: {capabilities.seccomp.reason}")
    else:
        why = why_not_wrapped(capabilities)
        findings.lacks(Layer.SYSCALLS, f"system calls are not filtered: the wrapper loads the filter ({why})")


def _report(
    capabilities: Capabilities,
    snapshot: PolicySnapshot,
    wrapped: bool,
    interpreter: Shell | Python | Node | Missing,
    findings: Findings,
) -> SandboxReport:
    return SandboxReport(
        requested=snapshot.policy,
        origin=PolicyOrigin(source=snapshot.source, revision=snapshot.revision, reason=snapshot.reason),
        enforced=Enforced(**findings.enforced),
        downgrades=_unique(findings.downgrades),
        notes=tuple(findings.notes),
        mechanisms=findings.mechanisms,
        platform=_platform(capabilities, wrapped, interpreter),
    )


def _unique(downgrades: Sequence[Downgrade]) -> tuple[Downgrade, ...]:
    return tuple(dict.fromkeys(downgrades))


def _platform(capabilities: Capabilities, wrapped: bool, interpreter: Shell | Python | Node | Missing) -> str:
    parts = [f"{capabilities.system}/{capabilities.machine} {capabilities.kernel}"]
    if wrapped and isinstance(capabilities.wrapper, InstalledWrapper):
        parts.append(capabilities.wrapper.detail)
    else:
        parts.append("no wrapper")
    if not isinstance(interpreter, Missing):
        parts.append(interpreter.detail)
    return ", ".join(parts)
