"""The layer of privilege: as whom a run runs, and what confines it where there are no namespaces."""

from __future__ import annotations

from ringfence.sandbox.capabilities.found import Cgroup, Missing, Node, Python, Shell
from ringfence.sandbox.capabilities.model import SANDBOX_UID, Capabilities
from ringfence.sandbox.filters import landlock
from ringfence.sandbox.filters.landlock import Confinement
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.uids import UidRange
from ringfence.sandbox.plan.findings import Findings
from ringfence.sandbox.plan.model import Inputs
from ringfence.sandbox.policy import (
    FilesystemMode,
    NetworkMode,
    PrivilegeMode,
    SandboxPolicy,
)
from ringfence.sandbox.report import Layer

SHARED_QUOTAS = (
    "what the kernel counts per user (epoll watches, inotify instances, queued signals and timers, message queues, "
    "descriptors under way, buffers of pipes, processes)"
)


def privilege(
    capabilities: Capabilities, policy: SandboxPolicy, inputs: Inputs, findings: Findings, *, wrapped: bool
) -> tuple[Identity, UidRange | None]:
    """The identity inside, and the range of which the run gets a uid outside, if it is one of its own."""
    own = Identity(capabilities.supervisor_uid, capabilities.supervisor_gid)
    privilege = policy.privilege
    if not policy.enabled or privilege.mode is PrivilegeMode.INHERIT:
        if capabilities.supervisor_is_root:
            findings.note(Layer.PRIVILEGE, "the script keeps the rights of the supervisor, which is root")
        return own, None
    if not capabilities.supervisor_is_root:
        why_shared = _why_own(capabilities, policy, inputs, wrapped=wrapped)
        if why_shared is None:
            findings.holds(
                Layer.PRIVILEGE,
                privilege=f"setuid to a uid of the run's own, of the subordinate uids {capabilities.uid_range}, "
                "without other groups, before the namespaces of the run are made",
            )
            return Identity(SANDBOX_UID, SANDBOX_UID), capabilities.uid_range
        findings.holds(Layer.PRIVILEGE, privilege=f"inherits uid {own.uid} of a supervisor that is not root")
        findings.note(
            Layer.PRIVILEGE,
            f"runs share uid {own.uid} with their supervisor, and with it {SHARED_QUOTAS}: {why_shared}",
        )
        if privilege.uid not in (None, own.uid) or privilege.gid not in (None, own.gid):
            findings.note(
                Layer.PRIVILEGE,
                f"the policy names uid {privilege.uid}, gid {privilege.gid}; only root can give those, "
                f"so the script has the supervisor's own uid {own.uid}, gid {own.gid}",
            )
        return own, None
    if isinstance(capabilities.identity_drop, Missing):
        findings.lacks(
            Layer.PRIVILEGE,
            f"the supervisor cannot start scripts as another user than root: {capabilities.identity_drop.reason}",
        )
        return own, None
    uid = privilege.uid or SANDBOX_UID
    target = Identity(uid, privilege.gid or (uid if privilege.uid else SANDBOX_UID))
    uids = capabilities.uid_range if privilege.uid is None and privilege.gid is None else None
    if uids is None:
        whom = f"{target.uid}:{target.gid}"
        findings.note(
            Layer.PRIVILEGE,
            f"runs share uid {target.uid}, and with it {SHARED_QUOTAS}: {_why_shared(capabilities, policy)}",
        )
    else:
        whom = f"a uid of the run's own, of {uids}"
    findings.holds(
        Layer.PRIVILEGE, privilege=f"setuid to {whom} without other groups, before any namespace is made"
    )
    return target, uids


def _why_own(
    capabilities: Capabilities, policy: SandboxPolicy, inputs: Inputs, *, wrapped: bool
) -> str | None:
    """Why a run has the uid of its supervisor, which is not root; None if it gets one of its own."""
    if isinstance(capabilities.uids, Missing):
        return capabilities.uids.reason
    if policy.privilege.uid is not None or policy.privilege.gid is not None:
        return _why_shared(capabilities, policy)
    if not wrapped:
        return "a run without namespaces does not get another uid"
    if policy.filesystem.mode is FilesystemMode.OFF:
        return "the policy keeps the host's files, which are the supervisor's own"
    if inputs.packages_private and policy.filesystem.mode is FilesystemMode.SCRATCH_PLUS_RO:
        return f"no other uid can reach the packages in {inputs.packages}"
    if inputs.host is not None and inputs.host.private is not None:
        return f"no other uid can reach {inputs.host.private}, which the policy shows"
    if inputs.sockets is not None and inputs.sockets.private is not None:
        return f"no other uid can connect to {inputs.sockets.private}, which the policy gives"
    if isinstance(capabilities.cgroup, Cgroup) and capabilities.cgroup.place.is_legacy:
        return "only root can move processes of another uid into a cgroup v1"
    return None


def _why_shared(capabilities: Capabilities, policy: SandboxPolicy) -> str:
    named = [f"privilege.{name}" for name in ("uid", "gid") if getattr(policy.privilege, name) is not None]
    if named:
        return f"the policy names {' and '.join(named)}"
    return (
        f"there are no uids to give out ({capabilities.uids.reason})"
        if isinstance(capabilities.uids, Missing)
        else ""
    )


def confinement_of(
    capabilities: Capabilities, policy: SandboxPolicy, interpreter: Shell | Python | Node | Missing
) -> Confinement | None:
    """What a child without namespaces is confined to; None where the policy or the host does not have it so."""
    python = capabilities.python
    if (
        not policy.enabled
        or not capabilities.is_linux
        or isinstance(capabilities.landlock, Missing)
        or isinstance(capabilities.seccomp, Missing)
        or isinstance(python, Missing)
        or isinstance(interpreter, Missing)
    ):
        return None
    layout, network = capabilities.layout, policy.network
    return Confinement(
        abi=capabilities.landlock.abi,
        files=policy.filesystem.mode is not FilesystemMode.OFF,
        programs=("/usr", *(path for path, _ in layout.links), *layout.directories, *interpreter.roots),
        readable=layout.etc,
        sockets=not network.denies_everything,
        ports=landlock.listed_ports(network.ports) if network.mode is NetworkMode.ALLOWLIST else None,
        python=python.path,
    )
