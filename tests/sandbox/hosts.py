"""Hosts that this machine is not: capabilities to plan for."""

from __future__ import annotations

from ringfence.sandbox.capabilities.model import Available, Capabilities, Missing, SystemLayout

HERE = Available(detail="made one")


def linux(**differences: object) -> Capabilities:
    """A Linux host with everything, supervised by root, but for `differences`."""
    everything = Capabilities(
        system="linux",
        machine="x86_64",
        kernel="6.1.0",
        supervisor_uid=0,
        supervisor_gid=0,
        wrapper=Available(path="/opt/bwrap", detail="bubblewrap 0.11.0 (bundled)"),
        user_namespaces=HERE,
        network_namespaces=HERE,
        fresh_proc=HERE,
        overlay=HERE,
        identity_drop=HERE,
        uids=Available(path="2000000000-2000065535"),
        rlimits=HERE,
        seccomp=HERE,
        cgroup=Missing(reason="no subtree is delegated"),
        landlock=Available(detail="Landlock ABI 4"),
        nft=Available(path="/usr/sbin/nft"),
        tun=Available(path="/dev/net/tun"),
        slirp4netns=Available(path="/usr/bin/slirp4netns"),
        pasta=Missing(reason="pasta is not installed"),
        macvlan=Missing(reason="no addressing is configured"),
        shell=Available(path="/bin/sh", detail="/usr/bin/dash"),
        python=Available(path="/usr/bin/python3.11", detail="Python 3.11.2"),
        node=Available(path="/usr/bin/node", detail="Node.js v20"),
        layout=SystemLayout(links=(("/bin", "usr/bin"),)),
    )
    return everything.model_copy(update=differences)


def without_wrapper() -> Capabilities:
    gone = Missing(reason="cannot be made without the wrapper, bubblewrap")
    return linux(
        wrapper=Missing(reason="bubblewrap is neither bundled nor on PATH"),
        user_namespaces=gone,
        network_namespaces=gone,
        fresh_proc=gone,
        overlay=gone,
    )


def with_blocked_namespaces(**differences: object) -> Capabilities:
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
    return without_wrapper().model_copy(
        update={
            "system": "darwin",
            "machine": "arm64",
            "supervisor_uid": 501,
            "supervisor_gid": 20,
            "rlimits": Missing(reason="only Linux's limits are known here"),
            "seccomp": Missing(reason="there is no syscall filter for 'arm64' machines"),
        }
    )
