"""What the room of a plan holds: a pure decision, the same for every wrapper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ringfence.sandbox.plan.environment import HOSTNAME, SCRATCH
from ringfence.sandbox.plan.model import Plan, Reach
from ringfence.sandbox.policy import FilesystemMode, HostView
from ringfence.sandbox.processes.spawning import containing
from ringfence.sandbox.wrappers.room import (
    Closed,
    ClosedProc,
    ClosedRoot,
    Covered,
    Device,
    Directory,
    Furnished,
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

PROC = "/proc"
OWN_PROC, HOSTS_PROC = f"{PROC}/own", f"{PROC}/host"
"""Where a run that is shown the host has its own `/proc`, and the host's: `/proc` itself is a directory of links."""

INIT = "1"
"""The name in `/proc` of the namespace's init, which is of the script's own uid. By it, a script could get at its
memory (so that it no longer died with the wrapper), and at the wrapper's file on the host. It is covered by an empty
directory."""

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

STATE = "/tmp/state"  # noqa: S108 - inside the sandbox
"""Where a run finds what the last one kept: a tmpfs of its own, whose size is the bound."""

SHARED_MEMORY = "/tmp/.shm"  # noqa: S108 - inside the sandbox
"""What `/dev/shm` leads to: the same bounded tmpfs, so that shared memory counts as scratch."""


def furnish(
    plan: Plan,
    *,
    files: Mapping[str, bytes],
    masked: Sequence[str],
    bottom: str | None,
    program: bytes | None,
    settled: str | None = None,
) -> Room:
    """The room of a plan that has a wrapper.

    Args:
        plan: what is to be made.
        files: the made files, by their path inside.
        settled: a directory with all that is in `/etc`, in place of the files and of the host's directories there;
            see `can_settle`.
        masked: those of `MASKED_FILES` and `MASKED_DIRECTORIES` that are there and that the script could read.
        bottom: the empty directory that the host's directories are layered over, if the plan wants them layered.
        program: the system call filter; None for none.
    """
    proc = own_proc(plan)
    steps = [
        *(
            _host(plan, files)
            if plan.filesystem is FilesystemMode.OFF
            else _root(plan, files, settled, bottom)
        ),
        *([Own(PROC, OWN_PROC_FOLDER)] if plan.host_view else []),
        Proc(proc),
        *(_mask(path, proc) for path in masked),
        *_hosts(plan, masked),
        *_packages(plan, bottom),
        Memory("/tmp", plan.resources.max_scratch_bytes, 0o1777),  # noqa: S108 - inside the sandbox
        Directory(SCRATCH, 0o700),
        Directory(SHARED_MEMORY, 0o1777),
        *([Memory(STATE, plan.resources.max_state_bytes, 0o700)] if plan.state else []),
        Own(SCRIPT),
        _nothing(f"{proc}/{INIT}"),
        # To procfs, whoever is uid 0 on the host is root, without any capability.
        ClosedProc(proc),
        *_shown(plan, files),
        *_sockets(plan),
        *(Closed(path) for path in _made(plan)),
        # Last: what is written to the root so far is the wrapper's, and what comes later would be the script's.
        *([] if plan.filesystem is FilesystemMode.OFF else [ClosedRoot()]),
    ]
    return Room(
        steps=tuple(steps),
        uid=plan.identity.uid,
        gid=plan.identity.gid,
        # A filtered link is in the namespace in which the wrapper already is; the gate made it.
        network=plan.reach in (Reach.NOTHING, Reach.RELAYED),
        hostname=HOSTNAME,
        directory=SCRATCH,
        filter=program,
    )


OWN_PROC_FOLDER = "proc"
"""The name of the directory of links among those that a room has of its own."""

RESOLV_CONF = "/etc/resolv.conf"

ETC = "/etc"

OF_A_ROOT = ("/dev", ETC)
"""What is made in memory in a room whose root is a directory that exists."""


def own_proc(plan: Plan) -> str:
    """Where the run's own `/proc` is for it."""
    return OWN_PROC if plan.host_view else PROC


def can_settle(plan: Plan) -> bool:
    """Whether all that the room has in `/etc` can be known before: the made files, and copies of some of the host's.

    In rooms that are shown more, there are places to be made for it.
    """
    return plan.layered and not plan.sees_host and not any(map(_is_in_etc, plan.roots))


def _is_in_etc(path: str) -> bool:
    return f"{path}/".startswith(f"{ETC}/")


def has_root(plan: Plan) -> bool:
    """Whether the root of the room is a directory on the file system of the host's root, to have its numbers."""
    return HostView.DISKS in plan.host_view and plan.filesystem is not FilesystemMode.OFF


def _mtab(plan: Plan) -> list[Step]:
    """The list of mounts by its other name, if it is the host's (getmntent(3))."""
    return [Made("/etc/mtab", plan.host.mounts)] if plan.host is not None and plan.host.mounts else []


def _made(plan: Plan) -> tuple[str, ...]:
    """What is made in memory of a root that is a directory; what is shown as the host has it is not made at all."""
    return tuple(path for path in OF_A_ROOT if not _is_shown(path, plan)) if has_root(plan) else ()


def _is_shown(path: str, plan: Plan) -> bool:
    """Whether what is at this path will be what the policy shows of the host."""
    places = () if plan.host is None else plan.host.paths
    return any(path == place.at or path.startswith(f"{place.at}/") for place in places)


def _hosts(plan: Plan, masked: Sequence[str]) -> list[Step]:
    """The host's own `/proc` and `/sys`, as far as the policy shows them."""
    if plan.host is None or not plan.host_view:
        return []
    steps: list[Step] = []
    if HostView.PROCESSES in plan.host_view:
        steps += [Shown(containing.HOSTS_PROC, HOSTS_PROC), *(_mask(path, HOSTS_PROC) for path in masked)]
    if HostView.NETWORK in plan.host_view:
        steps.append(Shown(f"{containing.HOSTS_PROC}/{plan.host.pid}/net", f"{PROC}/net"))
    return [*steps, Shown("/sys", "/sys"), *map(_nothing, plan.host.sealed)]


def _shown(plan: Plan, files: Mapping[str, bytes]) -> list[Step]:
    """The host's files that the policy shows, without what the supervisor keeps to itself, and what has its numbers."""
    if plan.host is None or plan.filesystem is FilesystemMode.OFF:
        return []
    layout = plan.layout
    there = {"/usr", *(path for path, _ in layout.links), *layout.directories}
    witnesses = plan.host.witnesses if HostView.DISKS in plan.host_view else ()
    return [
        *(Link(at, to) for at, to in plan.host.links if at not in there),
        *(Shown(place.source, place.at) for place in plan.host.paths if place.at not in there),
        *(Shown(place.source, place.at) for place in witnesses),
        *(_nothing(place.at) if place.is_directory else Masked(place.at) for place in plan.host.hidden),
        # With a link of its own, a run cannot ask the host's resolvers.
        *(
            [Covered(plan.host.resolv_conf, files[RESOLV_CONF])]
            if plan.has_link and plan.host.resolv_conf is not None
            else []
        ),
    ]


def _sockets(plan: Plan) -> list[Step]:
    """The host's sockets that the policy gives. Where all of its files are there anyway, `/tmp` is another one."""
    all_there = plan.filesystem is FilesystemMode.OFF
    return [
        Shown(each.source, each.at)
        for each in plan.sockets
        if not all_there or each.at.startswith("/tmp/")  # noqa: S108 - inside the sandbox
    ]


def _packages(plan: Plan, bottom: str | None) -> list[Step]:
    if plan.packages is None:
        return []
    return [show(plan.packages, PACKAGES, bottom if plan.packages_layered else None)]


def _mask(path: str, proc: str) -> Step:
    at = f"{proc}{path[len(PROC) :]}"
    return _nothing(at) if path in MASKED_DIRECTORIES else Masked(at)


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


def _root(plan: Plan, files: Mapping[str, bytes], settled: str | None, bottom: str | None) -> list[Step]:
    steps: list[Step] = [
        *map(Furnished, _made(plan)),
        *plan.layout.shown(plan.roots, bottom),
        *map(Masked, plan.layout.closed_files),
        *map(_nothing, plan.layout.closed_directories),
        *(Made(path, content) for path, content in files.items()),
        *_mtab(plan),
        *(_device(name, plan) for name in DEVICES),
        Link("/dev/fd", "/proc/self/fd"),
        Link("/dev/stdin", "/proc/self/fd/0"),
        Link("/dev/stdout", "/proc/self/fd/1"),
        Link("/dev/stderr", "/proc/self/fd/2"),
        Link("/dev/shm", SHARED_MEMORY),  # noqa: S108 - inside the sandbox
    ]
    if settled is not None:
        steps = [show(settled, ETC, bottom), *(step for step in steps if not _is_in_etc(_at(step)))]
    # A mount that is covered at once is more than a waste: not every wrapper finds it again.
    kept = {"/usr", *(path for path, _ in plan.layout.links), *plan.layout.directories}
    return [step for step in steps if _at(step) in kept or not _is_shown(_at(step), plan)]


def _at(step: Step) -> str:
    return "/" if isinstance(step, HostFiles | ClosedRoot) else step.at


def _device(name: str, plan: Plan) -> Step:
    # A link takes less time than a mount.
    if name == "random":
        # Since Linux 5.6, both are the same but before the kernel has its first seed (random(4)).
        return Link("/dev/random", "/dev/urandom")
    if name == "zero" and plan.cgroup is None:
        # A mapping of /dev/zero is memory that is shared and anonymous (see `seccomp`). /dev/full reads the same, and
        # cannot be mapped.
        return Link("/dev/zero", "/dev/full")
    return Device(f"/dev/{name}", f"/dev/{name}")
