"""The attempts behind `capabilities`: each tries one primitive on this host, as the uid that scripts will have."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ringfence.sandbox.capabilities.found import (
    Cgroup,
    IdentityDrop,
    Landlock,
    Node,
    Python,
    ResourceLimits,
    Seccomp,
    Shell,
)
from ringfence.sandbox.capabilities.layout import MERGED_DIRECTORIES
from ringfence.sandbox.faults import Unavailable, is_passing, only_if_lasting
from ringfence.sandbox.filters.seccomp import Architecture, UnsupportedArchitecture
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.limits.cgroups import groups
from ringfence.sandbox.limits.cgroups.delegation import NotDelegated
from ringfence.sandbox.processes.attempts import SEARCH_PATH, attempt
from ringfence.sandbox.wrappers.barriers import unreachable

PYTHON, NODE = "RINGFENCE_PYTHON", "RINGFENCE_NODE"
"""The environment variables that name the interpreters of scripts."""


def mounted_beneath(paths: Iterable[str]) -> str | None:
    """Something that is mounted by itself beneath one of these directories; None if nothing is."""
    tops = tuple(f"{path}/" for path in paths)
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
            point = line.split(" ")[4]
            if point.startswith(tops):
                return point
    return None


def can_drop_to(target: Identity | None) -> IdentityDrop:
    """Whether a child of this supervisor really gets a non-root identity."""
    if target is None:
        return IdentityDrop(os.geteuid())
    # Neither a name nor a group may remain: `id -G` lists the supplementary groups too.
    got = attempt(["id", "-u"], target).strip(), attempt(["id", "-G"], target).strip()
    if got != (str(target.uid), str(target.gid)):
        raise Unavailable(
            f"a child that was started as uid {target.uid} with group {target.gid} alone has {got}"
        )
    return IdentityDrop(os.geteuid(), target)


def can_limit() -> ResourceLimits:
    """Whether resource limits hold: a child that lowers its own is seen to have it."""
    if attempt(["sh", "-c", "ulimit -n 64 && ulimit -n"], None).strip() != "64":
        raise Unavailable("a lowered resource limit did not take effect")
    return ResourceLimits()


def has_seccomp() -> Seccomp:
    """Whether the kernel takes seccomp filters, and the machine is one whose system calls we know."""
    try:
        architecture = Architecture.of(platform.machine())
        status = Path("/proc/self/status").read_text()
    except UnsupportedArchitecture as error:
        raise Unavailable(str(error)) from error
    if "Seccomp:" not in status:
        raise Unavailable("the kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)")
    return Seccomp(architecture.machine)


def delegated_cgroup() -> Cgroup:
    """The subtree under which runs can have cgroups of their own, with memory and process limits."""
    try:
        return Cgroup(groups.find(os.environ.get("RINGFENCE_CGROUP")))
    except NotDelegated as error:
        raise Unavailable(str(error), passing=is_passing(str(error))) from error


def core_pattern() -> str:
    """Where this host's core dumps go (core(5)); nothing if it does not tell."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/core_pattern").read_text(errors="replace").strip()
    return ""


def has_landlock() -> Landlock:
    """Which version of Landlock the kernel offers."""
    # landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION); 444 on every machine that has it.
    if platform.system() != "Linux":
        raise Unavailable("Landlock is a Linux feature")
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(444, None, 0, 1)
    if version < 1:
        error = OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        raise Unavailable(f"landlock_create_ruleset: {error.strerror}", passing=is_passing(error))
    return Landlock(version)


def find_shell() -> Shell:
    """The system's POSIX shell."""
    if not os.access("/bin/sh", os.X_OK):
        raise Unavailable("/bin/sh cannot be run")
    return Shell("/bin/sh", os.path.realpath("/bin/sh"))


def find_python(target: Identity | None) -> Python:
    """The first Python, 3.9 or newer, that `target` can run: `RINGFENCE_PYTHON`, the system's, then our own.

    Raises:
        Unavailable: if there is none; permissions are never changed to make one reachable.
    """
    configured = os.environ.get(PYTHON)
    candidates = [
        *([configured] if configured else []),
        "/usr/bin/python3",
        *_on_path("python3"),
        _own_python(),
    ]
    question = (
        "import sys; print(sys.version_info >= (3, 9), sys.version.split()[0], sys.base_prefix, sep='\\n')"
    )
    tried = []
    for candidate in dict.fromkeys(candidates):
        try:
            answer = attempt([candidate, "-I", "-S", "-c", question], target)
        except Unavailable as unavailable:
            only_if_lasting(unavailable)
            tried.append(_why_not(candidate, target, unavailable))
            continue
        recent, version, prefix = answer.splitlines()
        if recent == "True":
            path = os.path.realpath(candidate)
            return Python(path, version, _needed_by(path, prefix))
        tried.append(f"{candidate}: Python {version} is older than 3.9")
    raise Unavailable(_none_of(tried, "Python", target))


def find_node(target: Identity | None) -> Node:
    """The first Node.js that `target` can run: `RINGFENCE_NODE`, or those on PATH.

    Raises:
        Unavailable: if there is none.
    """
    configured = os.environ.get(NODE)
    tried = []
    for candidate in [*([configured] if configured else []), *_on_path("node")]:
        try:
            version = attempt([candidate, "--version"], target).strip()
        except Unavailable as unavailable:
            only_if_lasting(unavailable)
            tried.append(_why_not(candidate, target, unavailable))
            continue
        path = os.path.realpath(candidate)
        return Node(path, version, _needed_by(path, str(Path(path).parent.parent)))
    raise Unavailable(_none_of(tried, "Node.js", target))


def _needed_by(path: str, prefix: str) -> tuple[str, ...]:
    """The directories that an interpreter needs besides `/usr`, which every sandbox has."""
    needed = {os.path.realpath(prefix), str(Path(path).parent)}
    return tuple(sorted(root for root in needed if not _within_base(root)))


def _within_base(path: str) -> bool:
    top = Path(path).parts[1] if len(Path(path).parts) > 1 else ""
    return top == "usr" or top in MERGED_DIRECTORIES


def _on_path(name: str) -> list[str]:
    places = dict.fromkeys([*os.environ.get("PATH", "").split(os.pathsep), *SEARCH_PATH])
    return [str(Path(place, name)) for place in places if place and os.access(Path(place, name), os.X_OK)]


def _own_python() -> str:
    """The interpreter under this process, seen through a virtual environment."""
    return str(getattr(sys, "_base_executable", sys.executable))


def _why_not(candidate: str, target: Identity | None, unavailable: Unavailable) -> str:
    """Why a program could not be run, with what keeps `target` from it where that is found."""
    reason = None if target is None else unreachable(candidate, *target)
    return f"{candidate}: {unavailable}" if reason is None else reason


def _none_of(tried: Sequence[str], what: str, target: Identity | None) -> str:
    who = f"uid {target.uid}" if target else "this user"
    return f"there is no {what} that {who} can run" + (f" ({'; '.join(tried)})" if tried else "")
