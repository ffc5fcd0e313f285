"""The wrapper's arguments for a plan: pure text.

They are passed by descriptor, so that nothing of them shows in `ps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ringfence.sandbox.environment import HOSTNAME, SCRATCH
from ringfence.sandbox.plan import Plan, Reach
from ringfence.sandbox.policy import FilesystemMode
from ringfence.sandbox.probes import wrapper_base

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

SHARED_MEMORY = "/tmp/.shm"  # noqa: S108 - inside the sandbox
"""What `/dev/shm` leads to: the same bounded tmpfs, so that shared memory counts as scratch."""


def arguments(
    plan: Plan,
    *,
    files: Mapping[str, int],
    bound: Sequence[str],
    directories: Mapping[str, int],
    masked: Sequence[str],
    seccomp: int | None,
    info: int,
) -> list[str]:
    """The arguments before the command.

    Args:
        plan: what is to be made; it must have a wrapper.
        files: descriptors that hold the made files, by their path inside.
        bound: single host files that are bound read-only at their own path.
        directories: descriptors of directories that are bound read-only, by their path inside. (The wrapper
            still resolves their path outside, so one that the child cannot reach makes it fail.)
        masked: those of `MASKED_FILES` and `MASKED_DIRECTORIES` that are there and that the script could read.
        seccomp: the descriptor of the filter program.
        info: the descriptor on which the wrapper tells the pid of the namespace's init, and how its command ended.
    """
    result = [
        "--unshare-user",
        # Said, and not left to be taken over: whoever came through the gate is root in the namespace around.
        *("--uid", str(plan.identity.uid), "--gid", str(plan.identity.gid)),
        *("--cap-drop", "ALL"),
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
        # A filtered link is in the namespace in which the wrapper already is; the gate made it.
        *(["--unshare-net"] if plan.reach is Reach.NOTHING else []),
        "--die-with-parent",
        *("--unsetenv", "LD_PRELOAD"),
        "--new-session",
        *("--hostname", HOSTNAME),
        *("--json-status-fd", str(info)),
        *_root(plan, files, bound),
        *("--proc", "/proc"),
        *(word for path in masked for word in _mask(path)),
    ]
    for path, descriptor in directories.items():
        result += ["--ro-bind-fd", str(descriptor), path]
    result += [
        *("--perms", "1777", "--size", str(plan.resources.max_scratch_bytes), "--tmpfs", "/tmp"),  # noqa: S108
        *("--perms", "0700", "--dir", SCRATCH),
        *("--perms", "1777", "--dir", SHARED_MEMORY),
        *("--perms", "0555", "--size", "4096", "--tmpfs", INIT, "--remount-ro", INIT),
    ]
    if plan.filesystem is not FilesystemMode.OFF:
        # Last: what is written to the root so far is the wrapper's, and what comes later would be the
        # script's.
        result += ["--remount-ro", "/"]
    if seccomp is not None:
        result += ["--add-seccomp-fd", str(seccomp)]
    return [*result, "--chdir", SCRATCH]


def _mask(path: str) -> list[str]:
    if path in MASKED_DIRECTORIES:
        return ["--perms", "0555", "--size", "4096", "--tmpfs", path, "--remount-ro", path]
    return ["--dev-bind", "/dev/null", path]


def _root(plan: Plan, files: Mapping[str, int], bound: Sequence[str]) -> list[str]:
    if plan.filesystem is FilesystemMode.OFF:
        covered = [word for path, number in files.items() for word in ("--ro-bind-data", str(number), path)]
        # With the rights of our own uid, a script could lift the limits of its cgroup there.
        kept = [word for mount in plan.cgroup_mounts for word in ("--ro-bind", mount, mount)]
        return ["--dev-bind", "/", "/", *kept, *covered]
    result = wrapper_base(plan.layout.links, plan.layout.directories)
    for root in plan.roots:
        result += ["--ro-bind", root, root]
    for path in (*plan.layout.etc, *bound):
        result += ["--ro-bind", path, path]
    for path, descriptor in files.items():
        result += ["--perms", "0444", "--file", str(descriptor), path]
    for device in DEVICES:
        # A mapping of /dev/zero is memory that is shared and anonymous (see `seccomp`). /dev/full reads the same, and
        # cannot be mapped.
        source = "full" if device == "zero" and plan.cgroup is None else device
        result += ["--dev-bind", f"/dev/{source}", f"/dev/{device}"]
    for name, to in (
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("shm", SHARED_MEMORY),
    ):
        result += ["--symlink", to, f"/dev/{name}"]
    return result
