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
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ringfence.sandbox.capabilities import primitives
from ringfence.sandbox.capabilities.model import (
    EGRESS,
    SANDBOX_UID,
    Available,
    Capabilities,
    HostNetwork,
    Missing,
    SystemLayout,
)
from ringfence.sandbox.capabilities.prober import Prober
from ringfence.sandbox.capabilities.wrapper import wrapper_of
from ringfence.sandbox.egress import probe as egress
from ringfence.sandbox.faults import Unavailable, is_passing
from ringfence.sandbox.identities import leases
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.uids import from_text
from ringfence.sandbox.processes.registers import register_of, usable
from ringfence.sandbox.wrappers.bottom import BOTTOM
from ringfence.sandbox.wrappers.choice import WrapperKind, chosen
from ringfence.sandbox.wrappers.find import find
from ringfence.sandbox.wrappers.room import Wrapper
from ringfence.sandbox.wrappers.trial import try_room


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
    """What this host can enforce at this moment, tried live and not remembered.

    What can be tried by itself is tried side by side.

    Raises:
        WrapperSettingError: as `probe`.
    """
    is_linux = platform.system() == "Linux"
    uid, gid = os.geteuid(), os.getegid()
    kind = wrapper or chosen()
    uids = _primitive(usable)
    with _lease(uids, Identity(uid, gid)) as lease:
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
def _lease(uids: Available | Missing, owner: Identity) -> Iterator[leases.Lease | None]:
    """A uid to try things as, which no run has at the same time; None where there are none, or none is free."""
    with contextlib.ExitStack() as held:
        lease = None
        if isinstance(uids, Available):
            with contextlib.suppress(leases.NoUidFree, OSError):
                lease = register_of(from_text(str(uids.path), owner)).lease(reaching=False)
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
    shared = Identity(SANDBOX_UID, SANDBOX_UID) if uid == 0 else None
    target = lease.identity if lease is not None else shared
    found = _primitive(find, kind)
    layout = SystemLayout(**primitives.system_layout())
    facts: dict[str, Available | Missing] = {"wrapper": found}
    with ThreadPoolExecutor(thread_name_prefix="ringfence-probe") as threads:
        apart = {
            "identity_drop": _beside(threads, primitives.can_drop_to, target),
            "python": _beside(threads, primitives.find_python, target),
            "node": _beside(threads, primitives.find_node, target),
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
        rlimits=_primitive(primitives.can_limit)
        if is_linux
        else Missing(reason="only Linux's limits are known here"),
        seccomp=_primitive(primitives.has_seccomp),
        cgroup=_primitive(primitives.delegated_cgroup),
        landlock=_primitive(primitives.has_landlock),
        shell=_primitive(primitives.find_shell),
        uids=uids,
        core_pattern=primitives.core_pattern(),
        **facts,
    )


_prober: Prober[tuple[bool, WrapperKind]] = Prober(lambda key: probe_now(links=key[0], wrapper=key[1]))


_NO_UIDS = Missing(reason="runs share the supervisor's uid", tried=False)


_NOT_TRIED = Missing(reason="not tried, since no run here has asked for a filtered link", tried=False)


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
    target: Identity | None,
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
    target: Identity | None,
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
    mount = primitives.mounted_beneath(("/usr", *layout.directories, *layout.etc, *roots))
    if isinstance(made, Available) or mount is None:
        return made
    reason = f"{made.reason} ({mount} is mounted by itself, which the kernel lets no overlay hide)"
    return made.model_copy(update={"reason": reason})


def _with_roots(
    facts: Mapping[str, Available | Missing],
    wrapper: Wrapper | Missing,
    layout: SystemLayout,
    target: Identity | None,
) -> Available | Missing:
    """Whether the interpreters' own directories, where they have some, can be layered too."""
    overlay, interpreters = facts["overlay"], (facts["python"], facts["node"])
    roots = [root for each in interpreters if isinstance(each, Available) for root in each.roots]
    if not roots or isinstance(overlay, Missing) or isinstance(wrapper, Missing):
        return overlay
    made = _attempt(wrapper, layout, target, roots, network=False, proc=False, layered=True)
    return _layered(made, layout, roots)


def _egress(
    network_namespaces: Available | Missing, target: Identity | None, lease: leases.Lease | None
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


def _host_network(nft: Available | Missing, target: Identity | None) -> HostNetwork:
    found = HostNetwork(**egress.host_network())
    if isinstance(nft, Missing):
        return found
    try:
        return found.model_copy(update={"lists_pairs": egress.lists_pairs(target)})
    except Unavailable:
        # It does without, until it is asked again.
        return found.model_copy(update={"lists_pairs": False, "read": False})


def _primitive(find: Any, *arguments: Any) -> Available | Missing:
    """Turn what a probe found, or the reason that it gave for failing, into a primitive."""
    try:
        return Available(**find(*arguments))
    except Unavailable as unavailable:
        return Missing(reason=str(unavailable), passing=unavailable.passing)
    except (OSError, RuntimeError, MemoryError, subprocess.SubprocessError) as error:
        return Missing(reason=str(error) or type(error).__name__, passing=is_passing(error))
