"""What will be done for one run: a pure decision from capabilities, policy and the run's needs. No I/O.

Each layer is decided by one small function that says what is planned, whether it holds, by which mechanism,
and what is lacking. Under `fail` anything lacking makes a `Refusal`; under `degrade` the plan goes on
without, and reports it.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from ringfence.sandbox import landlock, legacy, scope, uidzero
from ringfence.sandbox.capabilities import (
    EGRESS,
    SANDBOX_UID,
    Available,
    Capabilities,
    Missing,
    SystemLayout,
    wrapper_of,
)
from ringfence.sandbox.egress import (
    EgressPlan,
    HostNetwork,
    Macvlan,
    MacvlanSettings,
    Pasta,
    Plumbing,
    Slirp,
    egress_plan,
)
from ringfence.sandbox.landlock import Confinement
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
from ringfence.sandbox.ruleset import Everything, Listed
from ringfence.sandbox.uids import UidRange
from ringfence.sandbox.wrappers.nsjail import Nsjail
from ringfence.sandbox.wrappers.room import Wrapper

CRASHES_ARE_TOLD = (
    "a crash of the script is told to whoever listens on the socket in this host's kernel.core_pattern (without the "
    "script's memory); no limit keeps that away"
)

SHARED_QUOTAS = (
    "what the kernel counts per user (epoll watches, inotify instances, queued signals and timers, message queues, "
    "descriptors under way, buffers of pipes, processes)"
)

MOST_NOTES = 10
"""Of how many entries of the allowlist a report tells one and the same thing."""


class Interpreter(enum.StrEnum):
    """Which program a run needs."""

    SHELL = "shell"
    PYTHON = "python"
    NODE = "node"


class Reach(enum.Enum):
    """Which network a run is in: one without a link, one with a filtered link, or the host's own."""

    NOTHING = "nothing"
    FILTERED = "filtered"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a run needs beyond the policy.

    `packages` is the managed package tree, if there is one, and `packages_mount` something that is mounted beneath it.
    It is `packages_private` if not every user can reach it.
    """

    interpreter: Interpreter
    packages: str | None = None
    packages_mount: str | None = None
    packages_private: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """All that `launch` needs. Two equal plans make interchangeable sandboxes.

    `wrapper` is what makes the room, or None for a child without namespaces (a degraded or disabled
    sandbox). `identity` is what the child is inside, and outside too unless it gets a uid of its own there, one of
    `uids`.
    `egress` is the filter and the link of a run whose `reach` is `FILTERED`, with `nft` to load it; None for
    any other. `confinement` is what a child without namespaces is confined to, if the host has Landlock.
    `cgroup` is the subtree in which the run gets a cgroup of its own, and `cgroup_mounts` are where it could reach
    the cgroup file system if it sees the host's files. A `layered` run has the host's directories as read-only
    overlays, and the package tree too if that is `packages_layered`.
    """

    wrapper: Wrapper | None
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
    egress: EgressPlan | None = None
    nft: str | None = None
    confinement: Confinement | None = None
    cgroup: str | None = None
    cgroup_mounts: tuple[str, ...] = ()
    uids: UidRange | None = None
    layered: bool = False
    packages_layered: bool = False

    @property
    def shares_files(self) -> bool:
        """Whether files of the host are in a run whose policy does not say that it gets them."""
        layered = self.layered and (self.packages is None or self.packages_layered)
        return self.wrapper is not None and self.filesystem is not FilesystemMode.OFF and not layered


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

    def claims_nothing(self, why: str, *, as_asked: bool) -> None:
        """What was found to hold does not, against such a script; `as_asked` if the policy itself has it so."""
        for layer in () if as_asked else tuple(self.enforced):
            self.lacks(layer, why)
        self.enforced.clear()
        self.mechanisms.clear()
        self.note(Layer.PRIVILEGE, why)


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
    identity, uids = _privilege(capabilities, policy, inputs, findings, wrapped=wrapped)
    confinement = None if wrapped else _confinement(capabilities, policy, interpreter)
    reach, egress = _network(capabilities, policy, wrapped, confinement, findings)
    _resources(capabilities, policy, wrapped, identity, uids, findings)
    if capabilities.core_pattern.startswith("@"):
        findings.note(Layer.PRIVILEGE, CRASHES_ARE_TOLD)
    _filesystem(capabilities, policy, wrapped, confinement, inputs, findings)
    _syscalls(capabilities, policy, wrapped or confinement is not None, findings)
    if policy.enabled and (why := uidzero.at_large(identity.uid, policy.filesystem.mode, wrapped=wrapped)):
        findings.claims_nothing(why, as_asked=wrapped)
    if isinstance(interpreter, Missing):
        findings.lacks(
            Layer.PRIVILEGE.value, f"there is nothing to run the script with: {interpreter.reason}"
        )
    not_known = _not_known(capabilities, policy, wrapped, inputs.interpreter) if findings.downgrades else []
    for name, primitive in not_known:
        findings.lacks("sandbox", f"{name} could not be tried this time: {primitive.reason}; try again")
    report = _report(capabilities, snapshot, wrapped, interpreter, findings)
    cgroup = capabilities.cgroup if wrapped and isinstance(capabilities.cgroup, Available) else None
    refuses = policy.on_unavailable is OnUnavailable.FAIL and bool(report.downgrades)
    if refuses or not_known or isinstance(interpreter, Missing):
        return Refusal(report.model_copy(update={"enforced": Enforced(), "mechanisms": {}}))
    layered = wrapped and policy.filesystem.mode is not FilesystemMode.OFF and capabilities.overlay.available
    wrapper = _wrapper(capabilities) if wrapped else None
    wrapper = None if isinstance(wrapper, Missing) else wrapper
    return Plan(
        wrapper=wrapper,
        identity=identity,
        program=str(interpreter.path),
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
        nft=capabilities.nft.path if egress is not None and isinstance(capabilities.nft, Available) else None,
        confinement=confinement,
        cgroup=cgroup.path if cgroup is not None else None,
        cgroup_mounts=cgroup.roots if cgroup is not None else (),
        layered=layered,
        packages_layered=layered and inputs.packages_mount is None,
        uids=uids,
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


def _interpreter(capabilities: Capabilities, wanted: Interpreter) -> Available | Missing:
    return {
        Interpreter.SHELL: capabilities.shell,
        Interpreter.PYTHON: capabilities.python,
        Interpreter.NODE: capabilities.node,
    }[wanted]


def _wrapper(capabilities: Capabilities) -> Wrapper | Missing:
    """What makes the rooms here, with what it needs, or why there is nothing."""
    return wrapper_of(capabilities.wrapper_kind, capabilities.wrapper, capabilities.python)


def _roots(interpreter: Available, wrapper: Wrapper | None, python: Available | Missing) -> tuple[str, ...]:
    """The directories of the host that the run's programs are in."""
    loading = python.roots if isinstance(wrapper, Nsjail) and isinstance(python, Available) else ()
    return tuple(dict.fromkeys((*interpreter.roots, *loading)))


def _can_wrap(capabilities: Capabilities) -> bool:
    return (
        capabilities.is_linux
        and not isinstance(_wrapper(capabilities), Missing)
        and capabilities.user_namespaces.available
        and capabilities.fresh_proc.available
    )


def _why_not_wrapped(capabilities: Capabilities) -> str:
    if not capabilities.is_linux:
        return f"namespaces are a Linux feature, and this host is {capabilities.system}"
    for what, primitive in (
        (capabilities.wrapper_kind.value, _wrapper(capabilities)),
        ("user namespaces", capabilities.user_namespaces),
        ("a fresh /proc", capabilities.fresh_proc),
    ):
        if isinstance(primitive, Missing):
            return f"{what}: {primitive.reason}"
    return "namespaces cannot be made"


def _privilege(
    capabilities: Capabilities, policy: SandboxPolicy, inputs: Inputs, findings: _Findings, *, wrapped: bool
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
        findings.lacks(Layer.PRIVILEGE, f"root cannot be left: {capabilities.identity_drop.reason}")
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
        return "a run without namespaces does not get another"
    if policy.filesystem.mode is FilesystemMode.OFF:
        return "the policy keeps the host's files, which are the supervisor's own"
    if inputs.packages_private and policy.filesystem.mode is FilesystemMode.SCRATCH_PLUS_RO:
        return f"no other uid can reach the packages in {inputs.packages}"
    cgroup = capabilities.cgroup
    if isinstance(cgroup, Available) and legacy.Subtree.parse(cgroup.path or "") is not None:
        return "only root moves processes of another uid into a cgroup v1"
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


def _confinement(
    capabilities: Capabilities, policy: SandboxPolicy, interpreter: Available | Missing
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
        abi=capabilities.landlock_abi,
        files=policy.filesystem.mode is not FilesystemMode.OFF,
        programs=("/usr", *(path for path, _ in layout.links), *layout.directories, *interpreter.roots),
        readable=layout.etc,
        sockets=not network.denies_everything,
        ports=landlock.listed_ports(network.entries) if network.mode is NetworkMode.ALLOWLIST else None,
        python=str(python.path),
    )


def _network(
    capabilities: Capabilities,
    policy: SandboxPolicy,
    wrapped: bool,
    confinement: Confinement | None,
    findings: _Findings,
) -> tuple[Reach, EgressPlan | None]:
    network = policy.network
    if not policy.enabled:
        return Reach.HOST, None
    isolated = wrapped and capabilities.network_namespaces.available
    if network.denies_everything and isolated:
        findings.holds(Layer.NETWORK, network="a network namespace of its own with only its own loopback")
        return Reach.NOTHING, None
    if confinement is not None and not confinement.sockets:
        findings.holds(Layer.NETWORK, network=landlock.NO_SOCKETS)
        return Reach.HOST, None
    plumbing = _plumbing(capabilities) if isolated else _why_not_isolated(capabilities, wrapped)
    if isinstance(plumbing, str):
        if _asks_nothing(network):
            findings.note(Layer.NETWORK, f"the script is in the host's own network ({plumbing})")
        else:
            partly = (
                landlock.tcp_only(confinement.ports, confinement.abi) if confinement is not None else None
            )
            findings.lacks(Layer.NETWORK, f"egress is not {_restricted(partly)} ({plumbing})")
        return Reach.HOST, None
    egress = egress_plan(
        Listed(network.entries) if network.mode is NetworkMode.ALLOWLIST else Everything(),
        deny_link_local_and_metadata=network.deny_link_local_and_metadata,
        plumbing=plumbing,
        host=HostNetwork(
            resolvers=tuple(ip_address(text) for text in capabilities.host_network.resolvers),
            has_ipv6=capabilities.host_network.has_ipv6,
            speaks_ipv6=capabilities.host_network.speaks_ipv6,
            lists_pairs=capabilities.host_network.lists_pairs,
        ),
    )
    findings.holds(Layer.NETWORK, network=_how(network, egress))
    for text in _first([f"the entry {entry}" for entry in egress.shadowed]):
        findings.note(Layer.NETWORK, text)
    for text in _first(
        [
            f"the entry {entry} cannot be reached: this host's kernel has no IPv6"
            for entry in egress.without_ipv6
        ]
    ):
        findings.note(Layer.NETWORK, text)
    if not egress.nameservers:
        findings.note(
            Layer.NETWORK,
            "names are not resolved: "
            + (
                "the allowlist names no resolver of the host (its address, port 53)"
                if network.mode is NetworkMode.ALLOWLIST
                else "the host has no resolver that may be reached"
            ),
        )
    return Reach.FILTERED, egress


def _first(texts: Sequence[str]) -> Iterator[str]:
    """What is told of many entries: of each while they are few, and then how many more there are."""
    yield from texts[:MOST_NOTES]
    if len(texts) > MOST_NOTES:
        yield f"the same holds for {len(texts) - MOST_NOTES:,} more entries"


def _restricted(partly: str | None) -> str:
    return "restricted at all" if partly is None else f"restricted as the policy says: {partly}"


def _why_not_isolated(capabilities: Capabilities, wrapped: bool) -> str:
    namespaces = capabilities.network_namespaces
    if wrapped and isinstance(namespaces, Missing):
        return f"network namespaces: {namespaces.reason}"
    return _why_not_wrapped(capabilities)


def _plumbing(capabilities: Capabilities) -> Plumbing | str:
    """The link that runs of this host get, or why there is none. Addresses that an admin configured come first."""
    if isinstance(capabilities.nft, Missing):
        return f"nothing filters it: nft: {capabilities.nft.reason}"
    if isinstance(capabilities.macvlan, Available):
        return Macvlan(MacvlanSettings.parse(str(capabilities.macvlan.path)))
    own_device = isinstance(capabilities.tun, Available) and capabilities.tun.path is None
    if isinstance(capabilities.slirp4netns, Available):
        return Slirp(str(capabilities.slirp4netns.path), own_device=own_device)
    if isinstance(capabilities.pasta, Available):
        return Pasta(str(capabilities.pasta.path), own_device=own_device)
    reasons = (("slirp4netns", capabilities.slirp4netns), ("pasta", capabilities.pasta))
    return "nothing plumbs it: " + "; ".join(f"{name}: {missing.reason}" for name, missing in reasons)


def _how(network: Network, egress: EgressPlan) -> str:
    reach = f"{len(network.allow)} listed" if network.mode is NetworkMode.ALLOWLIST else "everything else"
    blocked = "link-local, metadata and " if network.deny_link_local_and_metadata else ""
    return (
        f"{egress.plumbing.name}, behind an nftables filter in the run's own network namespace: {blocked}"
        f"host loopback blocked, {reach} allowed, the rest dropped"
    )


def _asks_nothing(network: Network) -> bool:
    return network.mode is NetworkMode.UNRESTRICTED and not network.deny_link_local_and_metadata


def _resources(
    capabilities: Capabilities,
    policy: SandboxPolicy,
    wrapped: bool,
    identity: Identity,
    uids: UidRange | None,
    findings: _Findings,
) -> None:
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
        memoryBytes=f"{_memory(capabilities.cgroup)}; RLIMIT_DATA per process beneath",
        maxProcesses="RLIMIT_NPROC in the run's own user namespace, threads counted"
        + ("; pids.max of its own cgroup" if capabilities.cgroup.available else ""),
        maxScratchBytes=(
            "the size of the tmpfs on /tmp; its files are counted by the supervisor"
            if policy.filesystem.mode is FilesystemMode.OFF
            else "the size of the one tmpfs that is writable; its files are counted by the supervisor"
        ),
    )
    if identity.uid == 0 and not capabilities.cgroup.available:
        del findings.enforced[Layer.RESOURCES.value], findings.mechanisms["maxProcesses"]
        findings.note(Layer.RESOURCES, uidzero.NOT_COUNTED)
    if policy.filesystem.mode is FilesystemMode.OFF:
        findings.note(
            Layer.RESOURCES,
            "the policy keeps the host's files: what the script writes outside of /tmp, where its uid may "
            f"(/var/tmp, /dev/shm), is not bounded and {'stays' if uids is None else 'stays until the run has ended'}",
        )


def _memory(cgroup: Available | Missing) -> str:
    """By what the memory of a run as a whole is held."""
    if isinstance(cgroup, Missing):
        return (
            "best effort: the run's tree (what its processes map, page tables, swap, pipes and sockets) is summed by "
            "the supervisor again and again and killed, so that it can exceed the limit between two looks"
        )
    if legacy.Subtree.parse(cgroup.path or "") is not None:
        return (
            "memory.limit_in_bytes of the run's own cgroup (v1), without swap where that is accounted for, scratch and "
            "the kernel's buffers counted; the kernel kills a process at the limit, the supervisor the rest"
        )
    given = " in a transient scope of systemd" if scope.is_scope(cgroup.path or "") else ""
    return (
        f"memory.max of the run's own cgroup{given}, without swap, scratch and the kernel's buffers counted"
    )


def _filesystem(
    capabilities: Capabilities,
    policy: SandboxPolicy,
    wrapped: bool,
    confinement: Confinement | None,
    inputs: Inputs,
    findings: _Findings,
) -> None:
    mode = policy.filesystem.mode
    if not policy.enabled:
        return
    if mode is FilesystemMode.OFF:
        findings.note(
            Layer.FILESYSTEM,
            "the policy keeps the host's files: a lock that the script takes on one is held against the host too",
        )
        return
    if confinement is not None:
        findings.note(Layer.FILESYSTEM, landlock.FILES_NOT_COVERED)
        if (exposed := landlock.processes_not_kept(confinement.abi)) is not None:
            findings.note(Layer.PRIVILEGE, exposed)
        if landlock.covers_files(confinement.abi):
            findings.holds(Layer.FILESYSTEM, filesystem=landlock.FILES_BY_LANDLOCK)
        else:
            findings.lacks(Layer.FILESYSTEM, landlock.files_not_kept(confinement.abi))
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
    if (shared := _shared(capabilities, mode, inputs)) is not None:
        what, why = shared
        findings.note(
            Layer.FILESYSTEM,
            f"{what} shared with the host: whole files cannot be locked (flock), but ranges of a file can, for reading "
            f"({why})",
        )
    if mode is FilesystemMode.SCRATCH_PLUS_RO and inputs.packages is None:
        findings.note(
            Layer.FILESYSTEM, "there is no managed package tree to add; the standard library is there"
        )


def _shared(capabilities: Capabilities, mode: FilesystemMode, inputs: Inputs) -> tuple[str, str] | None:
    """Which files of the host a run has that are not layered, and why; None if it has none."""
    if isinstance(capabilities.overlay, Missing):
        return "the system's files are", capabilities.overlay.reason
    if mode is FilesystemMode.SCRATCH_PLUS_RO and inputs.packages_mount is not None:
        return "the package tree is", f"{inputs.packages_mount} is mounted in it, which no overlay would have"
    return None


def _syscalls(capabilities: Capabilities, policy: SandboxPolicy, loaded: bool, findings: _Findings) -> None:
    if not policy.enabled:
        return
    if loaded and capabilities.seccomp.available:
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
