"""What the room of a plan holds: a pure decision, the same for every wrapper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ringfence.sandbox.plan.environment import HOSTNAME, SCRATCH
from ringfence.sandbox.plan.model import Plan, Reach
from ringfence.sandbox.policy import FilesystemMode
from ringfence.sandbox.wrappers.room import (
    ClosedProc,
    ClosedRoot,
    Covered,
    Device,
    Directory,
    HostFiles,
    Link,
    Made,
    Masked,
    Memory,
    Own,
    Proc,
    Room,
    Shown,
    Step,
    show,
)

DEVICES = ("null", "zero", "full", "random", "urandom")
"""The devices of a script. There is no tty and no pts: nothing to inject keystrokes into, and no second
user namespace, which bubblewrap would make to own a devpts."""

PACKAGES = "/packages"
"""Where the managed package tree is inside."""

INIT = "/proc/1"
"""By this a script could get at its namespace's init, which is of its own uid: at its memory (so that it no longer
died with the wrapper), and at the wrapper's file on the host. It is covered by an empty directory."""

MASKED_DIRECTORIES = ("/proc/acpi", "/proc/asound", "/proc/scsi")
MASKED_FILES = (
    # What container runtimes mask (oci/defaults.go of Moby; Masked Paths in config-linux.md of the OCI's runtime spec).
    *("/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug"),
    *("/proc/timer_list", "/proc/timer_stats"),
    # Beyond these: how the kernel was started, its log, its symbols and modules, its memory, its emergency switch.
    *(
        "/proc/bootconfig",
        "/proc/cmdline",
        "/proc/kallsyms",
        "/proc/kmsg",
        "/proc/modules",
        "/proc/pagetypeinfo",
    ),
    *("/proc/slabinfo", "/proc/sysrq-trigger", "/proc/vmallocinfo"),
)
"""What of `/proc` tells of the host, or lets one at it, and no interpreter needs; it reads as empty.

A mask is a mount and takes its time, so this is what is worth it, and not all there is: see docs/limits.md."""

SCRIPT = "/tmp/script"  # noqa: S108 - inside the sandbox
"""Where a run finds its script: a directory of its own, read-only, into which the supervisor puts it at the start."""

SHARED_MEMORY = "/tmp/.shm"  # noqa: S108 - inside the sandbox
"""What `/dev/shm` leads to: the same bounded tmpfs, so that shared memory counts as scratch."""


def furnish(
    plan: Plan,
    *,
    files: Mapping[str, bytes],
    masked: Sequence[str],
    bottom: str | None,
    program: bytes | None,
) -> Room:
    """The room of a plan that has a wrapper.

    Args:
        plan: what is to be made.
        files: the made files, by their path inside.
        masked: those of `MASKED_FILES` and `MASKED_DIRECTORIES` that are there and that the script could read.
        bottom: the empty directory that the host's directories are layered over, if the plan wants them layered.
        program: the system call filter; None for none.
    """
    steps = [
        *(_host(plan, files) if plan.filesystem is FilesystemMode.OFF else _root(plan, files, bottom)),
        Proc(),
        *map(_mask, masked),
        *_packages(plan, bottom),
        Memory("/tmp", plan.resources.max_scratch_bytes, 0o1777),  # noqa: S108 - inside the sandbox
        Directory(SCRATCH, 0o700),
        Directory(SHARED_MEMORY, 0o1777),
        Own(SCRIPT),
        _nothing(INIT),
        # To procfs, whoever is uid 0 on the host is root, without any capability.
        ClosedProc(),
        # Last: what is written to the root so far is the wrapper's, and what comes later would be the script's.
        *([] if plan.filesystem is FilesystemMode.OFF else [ClosedRoot()]),
    ]
    return Room(
        steps=tuple(steps),
        uid=plan.identity.uid,
        gid=plan.identity.gid,
        # A filtered link is in the namespace in which the wrapper already is; the gate made it.
        network=plan.reach is Reach.NOTHING,
        hostname=HOSTNAME,
        directory=SCRATCH,
        filter=program,
    )


def _packages(plan: Plan, bottom: str | None) -> list[Step]:
    if plan.packages is None:
        return []
    return [show(plan.packages, PACKAGES, bottom if plan.packages_layered else None)]


def _mask(path: str) -> Step:
    return _nothing(path) if path in MASKED_DIRECTORIES else Masked(path)


def _nothing(path: str) -> Step:
    """An empty directory that stays so."""
    return Memory(path, 4096, 0o555, read_only=True)


def _host(plan: Plan, files: Mapping[str, bytes]) -> list[Step]:
    return [
        HostFiles(),
        # With the rights of our own uid, a script could lift the limits of its cgroup there.
        *(Shown(mount, mount) for mount in (plan.cgroup.mounts if plan.cgroup is not None else ())),
        *(Covered(path, content) for path, content in files.items()),
    ]


def _root(plan: Plan, files: Mapping[str, bytes], bottom: str | None) -> list[Step]:
    return [
        *plan.layout.shown(plan.roots, bottom),
        *map(Masked, plan.layout.closed_files),
        *map(_nothing, plan.layout.closed_directories),
        *(Made(path, content) for path, content in files.items()),
        *(Device(f"/dev/{_device(name, plan)}", f"/dev/{name}") for name in DEVICES),
        Link("/dev/fd", "/proc/self/fd"),
        Link("/dev/stdin", "/proc/self/fd/0"),
        Link("/dev/stdout", "/proc/self/fd/1"),
        Link("/dev/stderr", "/proc/self/fd/2"),
        Link("/dev/shm", SHARED_MEMORY),  # noqa: S108 - inside the sandbox
    ]


def _device(name: str, plan: Plan) -> str:
    # A mapping of /dev/zero is memory that is shared and anonymous (see `seccomp`). /dev/full reads the same, and
    # cannot be mapped.
    return "full" if name == "zero" and plan.cgroup is None else name
