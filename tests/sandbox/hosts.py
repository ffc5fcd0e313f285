"""Hosts that this machine is not: capabilities to plan for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ringfence.sandbox.capabilities.found import (
    Cgroup,
    FreshProc,
    IdentityDrop,
    InstalledWrapper,
    Landlock,
    Missing,
    NetworkNamespaces,
    Node,
    Overlay,
    PacketFilter,
    Python,
    ResourceLimits,
    Seccomp,
    Shell,
    SlirpProgram,
    TunDevice,
    Uids,
    UserNamespaces,
)
from ringfence.sandbox.capabilities.model import SANDBOX_UID, Capabilities, SystemLayout
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.uids import UidRange
from ringfence.sandbox.limits.cgroups.place import LegacySubtree, Place
from ringfence.sandbox.wrappers.choice import WrapperKind
from ringfence.sandbox.wrappers.installed import Program


def linux(**differences: Any) -> Capabilities:
    """A Linux host with everything, supervised by root, but for `differences`."""
    everything = Capabilities(
        system="linux",
        machine="x86_64",
        kernel="6.1.0",
        supervisor_uid=0,
        supervisor_gid=0,
        wrapper=InstalledWrapper(WrapperKind.BUBBLEWRAP, Program("/opt/bwrap", "0.11.0", "bundled")),
        user_namespaces=UserNamespaces(),
        network_namespaces=NetworkNamespaces(),
        fresh_proc=FreshProc(),
        overlay=Overlay(),
        identity_drop=IdentityDrop(0, Identity(SANDBOX_UID, SANDBOX_UID)),
        uids=Uids(UidRange(2_000_000_000, 2_000_065_535)),
        rlimits=ResourceLimits(),
        seccomp=Seccomp("x86_64"),
        cgroup=Missing(reason="no subtree is delegated"),
        landlock=Landlock(4),
        nft=PacketFilter("/usr/sbin/nft"),
        tun=TunDevice(),
        slirp4netns=SlirpProgram("/usr/bin/slirp4netns"),
        pasta=Missing(reason="pasta is not installed"),
        macvlan=Missing(reason="no addressing is configured"),
        shell=Shell("/bin/sh", "/usr/bin/dash"),
        python=Python("/usr/bin/python3.11", "3.11.2"),
        node=Node("/usr/bin/node", "v20.20.2"),
        layout=SystemLayout(links=(("/bin", "usr/bin"),)),
    )
    return replace(everything, **differences)


def cgroup(*subtree: str, mounts: tuple[str, ...] = (), is_scope: bool = False) -> Cgroup:
    """One of cgroup v2 in this directory, or of v1 in these of memory and of pids."""
    first, *others = map(Path, subtree)
    place = LegacySubtree(first, *others) if others else first
    return Cgroup(Place(place, mounts, is_scope))


def without_wrapper() -> Capabilities:
    gone = Missing(reason="cannot be made without the wrapper, bubblewrap")
    return linux(
        wrapper=Missing(reason="bubblewrap is neither bundled nor on PATH"),
        user_namespaces=gone,
        network_namespaces=gone,
        fresh_proc=gone,
        overlay=gone,
    )


def with_blocked_namespaces(**differences: Any) -> Capabilities:
    """An ordinary container: nothing but Landlock to confine with, unless that is among the differences."""
    blocked = Missing(reason="exit status 1: No permissions to create new namespace")
    blocked_all = {
        "user_namespaces": blocked,
        "network_namespaces": blocked,
        "fresh_proc": blocked,
        "overlay": blocked,
    }
    return linux(**{**blocked_all, **differences})


def with_nothing() -> Capabilities:
    """A container whose kernel has no Landlock."""
    return with_blocked_namespaces(landlock=Missing(reason="Function not implemented"))


def macos() -> Capabilities:
    return replace(
        without_wrapper(),
        system="darwin",
        machine="arm64",
        supervisor_uid=501,
        supervisor_gid=20,
        rlimits=Missing(reason="resource limits are supported on Linux only"),
        seccomp=Missing(reason="there is no syscall filter for 'arm64' machines"),
    )
