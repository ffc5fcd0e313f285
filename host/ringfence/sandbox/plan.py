"""What will be done for one run: a pure decision from capabilities, policy and the run's needs. No I/O.

Each layer is decided by one small function that says what is planned, whether it holds, by which mechanism,
and what is lacking. Under `fail` anything lacking makes a `Refusal`; under `degrade` the plan goes on
without, and reports it.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

from ringfence.sandbox.capabilities import SANDBOX_UID, Available, Capabilities, Missing, SystemLayout
from ringfence.sandbox.policy import (
    FilesystemMode,
    Network,
    NetworkMode,
    OnUnavailable,
    PrivilegeMode,
    Resources,
    SandboxPolicy,
)
from ringfence.sandbox.probes import Identity
from ringfence.sandbox.provider import PolicySnapshot
from ringfence.sandbox.report import Downgrade, Enforced, Layer, Note, PolicyOrigin, SandboxReport


class Interpreter(enum.StrEnum):
    """Which program a run needs."""

    SHELL = "shell"
    PYTHON = "python"
    NODE = "node"


class Reach(enum.Enum):
    """Which network a run is in."""

    NOTHING = "nothing"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a run needs beyond the policy. `packages` is the managed package tree, if there is one."""

    interpreter: Interpreter
    packages: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that `launch` needs. Two equal plans make interchangeable sandboxes.

    `wrapper` is the path of bubblewrap, or None for a child without namespaces (a degraded or disabled
    sandbox); `libraries` are those that it brings. `identity` is what the child is seen as from outside.
    """

    wrapper: str | None
    identity: Identity
    program: str
    roots: tuple[str, ...]
    filesystem: FilesystemMode
    reach: Reach
    resources: Resources
    limited: bool
    filtered: bool
    layout: SystemLayout
    packages: str | None
    report: SandboxReport = field(compare=False)
    libraries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """The run does not take place; the report's downgrades say why."""

    report: SandboxReport


@dataclass(slots=True)
class _Findings:
    """What the layers say while they are decided."""

    enforced: dict[str, bool] = field(default_factory=dict)
    mechanisms: dict[str, str] = field(default_factory=dict)
    downgrades: list[Downgrade] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def holds(self, layer: Layer, **mechanisms: str) -> None:
        self.enforced[layer.value] = True
        self.mechanisms.update(mechanisms)

    def lacks(self, layer: str, reason: str) -> None:
        self.downgrades.append(Downgrade(layer=layer, reason=reason))

    def note(self, layer: Layer, text: str) -> None:
        self.notes.append(Note(layer=layer, note=text))


@functools.lru_cache(maxsize=128)
def plan(capabilities: Capabilities, snapshot: PolicySnapshot, inputs: Inputs) -> Plan | Refusal:
    """What to do for one run on such a host under such a policy."""
    policy, findings = snapshot.policy, _Findings()
    interpreter = _interpreter(capabilities, inputs.interpreter)
    if policy.enabled:
        for path in snapshot.not_understood:
            findings.lacks(
                path.partition(".")[0],
                f"the policy asks for {path}, which this version does not know; upgrade it here",
            )
    else:
        findings.note(
            Layer.FILESYSTEM, "the policy turns the sandbox off: the script runs as a plain process"
        )
    wrapped = policy.enabled and _can_wrap(capabilities)
    identity = _privilege(capabilities, policy, findings)
    reach = _network(capabilities, policy, wrapped, findings)
    _resources(capabilities, policy, wrapped, findings)
    _filesystem(capabilities, policy, wrapped, inputs, findings)
    _syscalls(capabilities, policy, wrapped, findings)
    if isinstance(interpreter, Missing):
        findings.lacks(
            Layer.PRIVILEGE.value, f"there is nothing to run the script with: {interpreter.reason}"
        )
    report = _report(capabilities, snapshot, wrapped, interpreter, findings)
    refuses = policy.on_unavailable is OnUnavailable.FAIL and bool(report.downgrades)
    if refuses or isinstance(interpreter, Missing):
        return Refusal(report.model_copy(update={"enforced": Enforced(), "mechanisms": {}}))
    return Plan(
        wrapper=capabilities.wrapper.path
        if wrapped and isinstance(capabilities.wrapper, Available)
        else None,
        identity=identity,
        program=str(interpreter.path),
        roots=interpreter.roots,
        filesystem=policy.filesystem.mode if wrapped else FilesystemMode.OFF,
        reach=reach,
        resources=policy.resources,
        limited=policy.enabled and capabilities.rlimits.available,
        filtered=wrapped and capabilities.seccomp.available,
        layout=capabilities.layout,
        packages=inputs.packages if policy.filesystem.mode is FilesystemMode.SCRATCH_PLUS_RO else None,
        report=report,
        libraries=capabilities.wrapper.roots if isinstance(capabilities.wrapper, Available) else (),
    )


def _interpreter(capabilities: Capabilities, wanted: Interpreter) -> Available | Missing:
    return {
        Interpreter.SHELL: capabilities.shell,
        Interpreter.PYTHON: capabilities.python,
        Interpreter.NODE: capabilities.node,
    }[wanted]


def _can_wrap(capabilities: Capabilities) -> bool:
    return (
        capabilities.is_linux
        and capabilities.wrapper.available
        and capabilities.user_namespaces.available
        and capabilities.fresh_proc.available
    )


def _why_not_wrapped(capabilities: Capabilities) -> str:
    if not capabilities.is_linux:
        return f"namespaces are a Linux feature, and this host is {capabilities.system}"
    for what, primitive in (
        ("bubblewrap", capabilities.wrapper),
        ("user namespaces", capabilities.user_namespaces),
        ("a fresh /proc", capabilities.fresh_proc),
    ):
        if isinstance(primitive, Missing):
            return f"{what}: {primitive.reason}"
    return "namespaces cannot be made"


def _privilege(capabilities: Capabilities, policy: SandboxPolicy, findings: _Findings) -> Identity:
    own = Identity(capabilities.supervisor_uid, capabilities.supervisor_gid)
    privilege = policy.privilege
    if not policy.enabled or privilege.mode is PrivilegeMode.INHERIT:
        if capabilities.supervisor_is_root:
            findings.note(Layer.PRIVILEGE, "the script keeps the rights of the supervisor, which is root")
        return own
    if not capabilities.supervisor_is_root:
        findings.holds(Layer.PRIVILEGE, privilege=f"inherits uid {own.uid} of a supervisor that is not root")
        if privilege.uid not in (None, own.uid) or privilege.gid not in (None, own.gid):
            findings.note(
                Layer.PRIVILEGE,
                f"the policy names uid {privilege.uid}, gid {privilege.gid}; only root can give those, "
                f"so the script has the supervisor's own uid {own.uid}, gid {own.gid}",
            )
        return own
    if isinstance(capabilities.identity_drop, Missing):
        findings.lacks(Layer.PRIVILEGE, f"root cannot be left: {capabilities.identity_drop.reason}")
        return own
    uid = privilege.uid or SANDBOX_UID
    target = Identity(uid, privilege.gid or (uid if privilege.uid else SANDBOX_UID))
    findings.holds(
        Layer.PRIVILEGE,
        privilege=f"setuid to {target.uid}:{target.gid} without other groups, before any namespace is made",
    )
    return target


def _network(capabilities: Capabilities, policy: SandboxPolicy, wrapped: bool, findings: _Findings) -> Reach:
    network = policy.network
    if not policy.enabled or _asks_nothing(network):
        return Reach.HOST
    isolated = wrapped and capabilities.network_namespaces.available
    if network.denies_everything and isolated:
        findings.holds(Layer.NETWORK, network="a network namespace of its own with only its own loopback")
        return Reach.NOTHING
    if not isolated:
        namespaces = capabilities.network_namespaces
        why = (
            f"network namespaces: {namespaces.reason}"
            if wrapped and isinstance(namespaces, Missing)
            else _why_not_wrapped(capabilities)
        )
        findings.lacks(Layer.NETWORK, f"egress is not restricted at all ({why})")
        return Reach.HOST
    wish = (
        f"an allowlist of {len(network.allow)}"
        if network.mode is NetworkMode.ALLOWLIST
        else "metadata blocked"
    )
    findings.lacks(
        Layer.NETWORK, f"egress with {wish} needs a filter, and is not restricted at all without it"
    )
    return Reach.HOST


def _asks_nothing(network: Network) -> bool:
    return network.mode is NetworkMode.UNRESTRICTED and not network.deny_link_local_and_metadata


def _resources(capabilities: Capabilities, policy: SandboxPolicy, wrapped: bool, findings: _Findings) -> None:
    if not policy.enabled:
        return
    if isinstance(capabilities.rlimits, Missing):
        findings.lacks(Layer.RESOURCES, f"resource limits cannot be set: {capabilities.rlimits.reason}")
        return
    findings.mechanisms |= {
        "cpuSeconds": "RLIMIT_CPU, per process",
        "maxOpenFiles": "RLIMIT_NOFILE, per process",
        "maxFileSizeBytes": "RLIMIT_FSIZE, per file",
        "maxOutputBytes": "counted by the supervisor, stdout and stderr together",
    }
    if not wrapped:
        findings.lacks(
            Layer.RESOURCES,
            "limits hold per process only: processes, memory and scratch of a run as a whole are unbounded "
            f"({_why_not_wrapped(capabilities)})",
        )
        return
    findings.holds(
        Layer.RESOURCES,
        memoryBytes="the run's tree is summed by the supervisor and killed; RLIMIT_DATA per process beneath",
        maxProcesses="RLIMIT_NPROC in the run's own user namespace, threads counted",
        maxScratchBytes="the size of the one tmpfs that is writable; its files are counted by the supervisor",
    )


def _filesystem(
    capabilities: Capabilities, policy: SandboxPolicy, wrapped: bool, inputs: Inputs, findings: _Findings
) -> None:
    mode = policy.filesystem.mode
    if not policy.enabled or mode is FilesystemMode.OFF:
        return
    if not wrapped:
        findings.lacks(
            Layer.FILESYSTEM,
            "the host's files are as readable and writable as for any process "
            f"({_why_not_wrapped(capabilities)})",
        )
        return
    findings.holds(
        Layer.FILESYSTEM,
        filesystem="a mount namespace of its own: system programs read-only, one private tmpfs, nothing else",
    )
    if mode is FilesystemMode.SCRATCH_PLUS_RO and inputs.packages is None:
        findings.note(
            Layer.FILESYSTEM, "there is no managed package tree to add; the standard library is there"
        )


def _syscalls(capabilities: Capabilities, policy: SandboxPolicy, wrapped: bool, findings: _Findings) -> None:
    if not policy.enabled:
        return
    if wrapped and capabilities.seccomp.available:
        findings.holds(Layer.SYSCALLS, syscalls="seccomp filter and no_new_privs")
    elif isinstance(capabilities.seccomp, Missing):
        findings.lacks(Layer.SYSCALLS, f"system calls are not filtered: {capabilities.seccomp.reason}")
    else:
        why = _why_not_wrapped(capabilities)
        findings.lacks(Layer.SYSCALLS, f"system calls are not filtered: the wrapper loads the filter ({why})")


def _report(
    capabilities: Capabilities,
    snapshot: PolicySnapshot,
    wrapped: bool,
    interpreter: Available | Missing,
    findings: _Findings,
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


def _platform(capabilities: Capabilities, wrapped: bool, interpreter: Available | Missing) -> str:
    parts = [f"{capabilities.system}/{capabilities.machine} {capabilities.kernel}"]
    if wrapped and isinstance(capabilities.wrapper, Available):
        parts.append(capabilities.wrapper.detail)
    else:
        parts.append("no wrapper")
    if isinstance(interpreter, Available):
        parts.append(interpreter.detail)
    return ", ".join(parts)
