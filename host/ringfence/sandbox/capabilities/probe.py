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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, ParamSpec, TypeVar

from ringfence.sandbox.capabilities import primitives
from ringfence.sandbox.capabilities.found import (
    EgressRelay,
    FreshProc,
    InstalledWrapper,
    MacvlanAddresses,
    Missing,
    NetworkNamespaces,
    Node,
    Overlay,
    PacketFilter,
    PastaProgram,
    Python,
    SlirpProgram,
    TunDevice,
    Uids,
    UserNamespaces,
)
from ringfence.sandbox.capabilities.layout import system_layout
from ringfence.sandbox.capabilities.model import EGRESS, SANDBOX_UID, Capabilities, SystemLayout
from ringfence.sandbox.capabilities.prober import Prober
from ringfence.sandbox.capabilities.wrapper import wrapper_of
from ringfence.sandbox.egress import HostNetwork
from ringfence.sandbox.egress import probe as egress
from ringfence.sandbox.faults import Unavailable, is_passing
from ringfence.sandbox.identities import leases
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.processes.registers import register_of, usable
from ringfence.sandbox.wrappers.bottom import BOTTOM
from ringfence.sandbox.wrappers.choice import WrapperKind, chosen
from ringfence.sandbox.wrappers.find import find
from ringfence.sandbox.wrappers.room import Wrapper
from ringfence.sandbox.wrappers.trial import try_room

P = ParamSpec("P")
T = TypeVar("T")


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


def probe_anew(*, links: bool = True, wrapper: WrapperKind | None = None) -> Capabilities:
    """As `probe`, but tried now in any case: runs rely on what is found from here on.

    Raises:
        WrapperSettingError: as `probe`.
    """
    return _prober.anew((links, wrapper or chosen()))


def probe_now(*, links: bool = True, wrapper: WrapperKind | None = None) -> Capabilities:
    """What this host can enforce at this moment, tried live and not remembered.

    What can be tried by itself is tried side by side.

    Raises:
        WrapperSettingError: as `probe`.
    """
    supervisor = Identity(os.geteuid(), os.getegid())
    kind = wrapper or chosen()
    uids = _primitive(_uids)
    with _lease(uids) as lease:
        found = _probed(supervisor, uids, lease, kind, links=links)
        if supervisor.uid == 0 or lease is None or not any(name in _RUN_AS for name in found.lacks()):
            return found
    shared = _probed(supervisor, _NO_UIDS, None, kind, links=links)
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
    return replace(shared, uids=Missing(f"runs with uids of their own would lack {', '.join(lost)}"))


def _uids() -> Uids:
    return Uids(usable())


@contextlib.contextmanager
def _lease(uids: Uids | Missing) -> Iterator[leases.Lease | None]:
    """A uid to try things as, which no run has at the same time; None where there are none, or none is free."""
    with contextlib.ExitStack() as held:
        lease = None
        if isinstance(uids, Uids):
            with contextlib.suppress(leases.NoUidFree, OSError):
                lease = register_of(uids.range).lease(reaching=False)
                held.callback(lease.close)
        yield lease


def _probed(
    supervisor: Identity,
    uids: Uids | Missing,
    lease: leases.Lease | None,
    kind: WrapperKind,
    *,
    links: bool,
) -> Capabilities:
    """All facts, tried as whom scripts will be."""
    shared = Identity(SANDBOX_UID, SANDBOX_UID) if supervisor.uid == 0 else None
    target = lease.identity if lease is not None else shared
    installed = _primitive(_installed, kind)
    layout = system_layout()
    with ThreadPoolExecutor(thread_name_prefix="ringfence-probe") as threads:
        dropping = _beside(threads, primitives.can_drop_to, target)
        finding_python = _beside(threads, primitives.find_python, target)
        finding_node = _beside(threads, primitives.find_node, target)
        rooms = _rooms(
            kind, installed, finding_python if kind is WrapperKind.NSJAIL else None, layout, target
        )
    links_found = _links(rooms.network, target, lease) if links else _Links.without(_NOT_TRIED)
    identity_drop, python, node = dropping(), finding_python(), finding_node()
    overlay = _with_roots(rooms.overlay, (python, node), wrapper_of(installed, python), layout, target)
    is_linux = platform.system() == "Linux"
    return Capabilities(
        system=platform.system().lower(),
        machine=platform.machine(),
        kernel=platform.release(),
        supervisor_uid=supervisor.uid,
        supervisor_gid=supervisor.gid,
        wrapper_kind=kind,
        wrapper=installed,
        user_namespaces=rooms.user,
        network_namespaces=rooms.network,
        fresh_proc=rooms.proc,
        overlay=overlay,
        identity_drop=identity_drop,
        uids=uids,
        rlimits=_primitive(primitives.can_limit)
        if is_linux
        else Missing("resource limits are supported on Linux only"),
        seccomp=_primitive(primitives.has_seccomp),
        cgroup=_primitive(primitives.delegated_cgroup),
        landlock=_primitive(primitives.has_landlock),
        relay=links_found.relay,
        nft=links_found.nft,
        tun=links_found.tun,
        slirp4netns=links_found.slirp4netns,
        pasta=links_found.pasta,
        macvlan=links_found.macvlan,
        shell=_primitive(primitives.find_shell),
        python=python,
        node=node,
        layout=layout,
        host_network=_host_network(links_found.nft, target),
        core_pattern=primitives.core_pattern(),
    )


_prober: Prober[tuple[bool, WrapperKind]] = Prober(lambda key: probe_now(links=key[0], wrapper=key[1]))


_NO_UIDS = Missing("runs share the supervisor's uid", tried=False)


_NOT_TRIED = Missing("not tried, since no run here has asked for a filtered link", tried=False)


def _beside(
    threads: ThreadPoolExecutor, find: Callable[P, T], *arguments: P.args, **options: P.kwargs
) -> Callable[[], T | Missing]:
    """Start an attempt beside others, and give back how to wait for it; where no thread can be had, it is made then."""
    attempt = functools.partial(_primitive, find, *arguments, **options)
    try:
        return threads.submit(attempt).result
    except RuntimeError:
        return attempt


def _installed(kind: WrapperKind) -> InstalledWrapper:
    return InstalledWrapper(kind, find(kind))


class _Rooms(NamedTuple):
    """What rooms can have that a wrapper makes."""

    user: UserNamespaces | Missing
    network: NetworkNamespaces | Missing
    proc: FreshProc | Missing
    overlay: Overlay | Missing


def _rooms(
    kind: WrapperKind,
    installed: InstalledWrapper | Missing,
    finding_python: Callable[[], Python | Missing] | None,
    layout: SystemLayout,
    target: Identity | None,
) -> _Rooms:
    """What the wrapper can make; nothing without it. Only a wrapper that needs a Python waits for one."""
    python = finding_python() if finding_python is not None else None
    wrapper = wrapper_of(installed, python)
    if not isinstance(wrapper, Missing):
        roots = python.roots if isinstance(python, Python) else ()
        return _namespaces(_Trial(wrapper, layout, target, roots))
    missing = (
        wrapper
        if isinstance(installed, InstalledWrapper)
        else Missing(f"cannot be made without the wrapper, {kind}", passing=wrapper.passing)
    )
    return _Rooms(missing, missing, missing, missing)


@dataclass(frozen=True, slots=True)
class _Trial:
    """Rooms of the system's directories and `roots`, to be made as `target`."""

    wrapper: Wrapper
    layout: SystemLayout
    target: Identity | None
    roots: Sequence[str]

    def why_not(self, *, network: bool, proc: bool, layered: bool = False) -> Missing | None:
        """Make such a room. None if that works, or else why it does not."""
        base = functools.partial(self.layout.shown, self.roots)

        def made() -> None:
            steps = base(BOTTOM.path() if layered else None)
            try_room(self.wrapper, steps, self.target, network=network, proc=proc)

        return _primitive(made)


def _namespaces(trial: _Trial) -> _Rooms:
    """Make namespaces, all kinds at once; only if that fails, find out which kind it is that fails."""
    unlayered = trial.why_not(network=True, proc=True, layered=True)
    overlay = _layered(unlayered, trial)
    if unlayered is None or trial.why_not(network=True, proc=True) is None:
        return _Rooms(UserNamespaces(), NetworkNamespaces(), FreshProc(), overlay)
    user = trial.why_not(network=False, proc=False)
    if user is not None:
        missing = Missing(f"needs a user namespace: {user.reason}", passing=user.passing)
        return _Rooms(user, missing, missing, missing)
    return _Rooms(
        UserNamespaces(),
        trial.why_not(network=True, proc=False) or NetworkNamespaces(),
        trial.why_not(network=False, proc=True) or FreshProc(),
        _layered(trial.why_not(network=False, proc=False, layered=True), trial),
    )


def _layered(missing: Missing | None, trial: _Trial) -> Overlay | Missing:
    """Whether directories can be layered, with what is known to be in the way where they cannot."""
    if missing is None:
        return Overlay()
    layout = trial.layout
    mount = primitives.mounted_beneath(("/usr", *layout.directories, *layout.etc, *trial.roots))
    if mount is None:
        return missing
    reason = f"{missing.reason} ({mount} is a separate mount, which the kernel lets no overlay hide)"
    return replace(missing, reason=reason)


def _with_roots(
    overlay: Overlay | Missing,
    interpreters: tuple[Python | Missing, Node | Missing],
    wrapper: Wrapper | Missing,
    layout: SystemLayout,
    target: Identity | None,
) -> Overlay | Missing:
    """Whether the interpreters' own directories, where they have some, can be layered too."""
    roots = [root for each in interpreters if not isinstance(each, Missing) for root in each.roots]
    if not roots or isinstance(overlay, Missing) or isinstance(wrapper, Missing):
        return overlay
    trial = _Trial(wrapper, layout, target, roots)
    return _layered(trial.why_not(network=False, proc=False, layered=True), trial)


class _Links(NamedTuple):
    """What a filtered link is made of."""

    relay: EgressRelay | Missing
    nft: PacketFilter | Missing
    tun: TunDevice | Missing
    slirp4netns: SlirpProgram | Missing
    pasta: PastaProgram | Missing
    macvlan: MacvlanAddresses | Missing

    @classmethod
    def without(cls, missing: Missing) -> _Links:
        """Nothing of it, all for one reason."""
        return cls(missing, missing, missing, missing, missing, missing)


def _links(
    network_namespaces: NetworkNamespaces | Missing, target: Identity | None, lease: leases.Lease | None
) -> _Links:
    """Load a filter and attach a link: by a stack only where no relay serves all; by the second if the first fails."""
    if isinstance(network_namespaces, Missing):
        reason = f"needs a network namespace: {network_namespaces.reason}"
        return _Links.without(Missing(reason, passing=network_namespaces.passing))
    relay = _primitive(lambda: EgressRelay(egress.relay(lease or target)))
    nft = _primitive(lambda: PacketFilter(egress.packet_filter(target)))
    macvlan = _primitive(lambda: MacvlanAddresses.of(egress.macvlan()))
    if isinstance(relay, EgressRelay) and isinstance(nft, PacketFilter):
        not_needed = Missing("not tried, since the relay works", tried=False)
        return _Links(relay, nft, not_needed, not_needed, not_needed, macvlan)
    tun = _primitive(lambda: TunDevice(egress.needs_own_tun(target)))
    if isinstance(tun, Missing):
        missing = Missing(f"needs a tun device: {tun.reason}", passing=tun.passing)
        return _Links(relay, nft, tun, missing, missing, macvlan)

    def stack(name: Literal["slirp4netns", "pasta"]) -> str:
        return egress.stack(name, lease or target, own_device=tun.own_node)

    slirp = _primitive(lambda: SlirpProgram(stack("slirp4netns")))
    pasta = (
        _primitive(lambda: PastaProgram(stack("pasta")))
        if isinstance(slirp, Missing)
        else Missing("not tried, since slirp4netns works", tried=False)
    )
    return _Links(relay, nft, tun, slirp, pasta, macvlan)


def _host_network(nft: PacketFilter | Missing, target: Identity | None) -> HostNetwork:
    found = egress.host_network()
    if isinstance(nft, Missing):
        return found
    try:
        return replace(found, lists_pairs=egress.lists_pairs(target))
    except Unavailable:
        # It does without, until it is asked again.
        return replace(found, lists_pairs=False, read=False)


def _primitive(find: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T | Missing:
    """What an attempt found, or the reason that it gave for failing."""
    try:
        return find(*arguments, **options)
    except Unavailable as unavailable:
        return Missing(str(unavailable), passing=unavailable.passing)
    except (OSError, RuntimeError, MemoryError, subprocess.SubprocessError) as error:
        return Missing(str(error) or type(error).__name__, passing=is_passing(error))
