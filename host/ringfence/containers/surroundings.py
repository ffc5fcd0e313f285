"""What is around this process: which container, if any, and what there can keep a sandbox from being made. Only looks.

What a filter of system calls refuses is found out by calling, in ways that do nothing where they are allowed: with
arguments that the kernel refuses in other words than a filter does, or with none that would change something.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ringfence.sandbox.capabilities.primitives import mounted_beneath

MARKS = {"/run/.containerenv": "podman", "/.dockerenv": "docker"}
"""Files by which a runtime can be known. The variable `container` (https://systemd.io/CONTAINER_INTERFACE) only says
that there is one: our images set it too."""
UNKNOWN = "unknown"
_OWN_FILES = {
    "podman": re.compile(r"/[a-z]+-containers/[0-9a-f]{64}/userdata/(hosts|hostname|resolv\.conf)"),
    "docker": re.compile(r"/containers/[0-9a-f]{64}/(hosts|hostname|resolv\.conf)"),
}
"""From where runtimes mount the files in /etc that they write for a container, as proc_pid_mountinfo(5) has it: Podman
before 4.6 hides its mark where it mounts something over /run, as it does for a root that is read-only."""

NAMESPACE_QUOTAS = tuple(
    f"user.max_{kind}_namespaces" for kind in ("user", "mnt", "pid", "net", "ipc", "uts")
)
SWITCHES = ("kernel.unprivileged_userns_clone", "kernel.apparmor_restrict_unprivileged_userns")
"""Of Debian's kernels, and of Ubuntu's."""

# Each call with what the kernel itself answers: unshare(2) of nothing does nothing; a user namespace that shares its
# directories is EINVAL, mounts, unmounts and trees at no address are EFAULT, and a namespace of no descriptor is EBADF.
# The others ask for rights first, so they are made in namespaces of the process's own: flags that there are not and a
# name of no length are EINVAL, and a root at no address is EFAULT. Where taking one capability away fails there, a
# security module took them all, and what it refuses says nothing of a filter.
_CALLS = """
import ctypes, platform
libc = ctypes.CDLL(None, use_errno=True)
names = ("unshare", "clone", "mount", "umount2", "setns", "open_tree", "move_mount", "pivot_root", "sethostname")
numbers = {"x86_64": (272, 56, 165, 166, 308, 428, 429, 155, 170), "aarch64": (97, 220, 40, 39, 268, 428, 429, 41, 161)}
number_of = dict(zip(names, numbers[platform.machine()]))
plain = {"unshare": (0,), "clone": (0x10000200, 0, 0, 0, 0), "mount": (0, 0, 0, 0, 0), "umount2": (0, 0),
         "setns": (-1, 0x10000000), "open_tree": (-1, 0, 0)}
with_rights = {"move_mount": (-1, 0, -1, 0, -1), "pivot_root": (0, 0), "sethostname": (0, -1)}
NEW_USER_MOUNT_AND_UTS_NAMESPACE, PR_CAPBSET_DROP = 0x14020000, 24
def answer(name, arguments):
    ctypes.set_errno(0)
    return ctypes.get_errno() if libc.syscall(number_of[name], *map(ctypes.c_long, arguments)) < 0 else 0
def tell(calls):
    for name, arguments in calls.items():
        print(name, answer(name, arguments), flush=True)
tell(plain)
if answer("unshare", (NEW_USER_MOUNT_AND_UTS_NAMESPACE,)) == 0 and libc.prctl(PR_CAPBSET_DROP, 0, 0, 0, 0) == 0:
    tell(with_rights)
"""

REFUSALS = frozenset((errno.EPERM, errno.ENOSYS))
"""What a runtime's filter has refused calls answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """What was found. `runtime` is None outside of containers."""

    runtime: str | None = None
    refused_calls: tuple[str, ...] = ()
    has_call_filter: bool = False
    masked: str | None = None
    """Something that is mounted over a part of /proc."""
    lsm_label: str = ""
    """The profile of AppArmor or the context of SELinux that holds for us, as the kernel tells it."""
    closed_settings: tuple[str, ...] = ()
    """Kernel settings that forbid namespaces, in the words of sysctl(8)."""
    has_temporary_directory: bool = True
    has_tun: bool = True


def look() -> Surroundings:
    """What is around this process now."""
    return Surroundings(
        runtime=runtime_of(os.environ),
        refused_calls=_refused_calls(),
        has_call_filter="Seccomp:\t0" not in _text("/proc/self/status"),
        masked=mounted_beneath(["/proc"]),
        lsm_label=_text("/proc/self/attr/current").strip().strip("\0"),
        closed_settings=tuple(_closed_settings()),
        has_temporary_directory=_has_temporary_directory(),
        has_tun=Path("/dev/net/tun").exists(),
    )


def runtime_of(environment: Mapping[str, str], root: Path = Path("/")) -> str | None:
    """Whose container this is: "kubernetes", "podman", "docker", or `UNKNOWN` where only that it is one is known."""
    if "KUBERNETES_SERVICE_HOST" in environment:
        return "kubernetes"
    for mark, name in MARKS.items():
        if (root / mark.lstrip("/")).exists():
            return name
    if not environment.get("container"):
        return None
    mounts = [line.split()[3:4] for line in _text(str(root / "proc/self/mountinfo")).splitlines()]
    for name, own in _OWN_FILES.items():
        if any(own.search(source) for one in mounts for source in one):
            return name
    return UNKNOWN


def _refused_calls() -> tuple[str, ...]:
    """The calls that a filter refuses, tried in a process of its own, in case that a filter kills for them."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _CALLS], capture_output=True, text=True, timeout=10, cwd="/"
        )
        answers = (line.split() for line in done.stdout.splitlines())
        return tuple(name for name, number in answers if int(number) in REFUSALS)
    return ()


def _closed_settings() -> list[str]:
    closed = [name for name in NAMESPACE_QUOTAS if _setting(name) == "0"]
    clone, restricted = SWITCHES
    if _setting(clone) == "0":
        closed.append(clone)
    if _setting(restricted) == "1":
        closed.append(restricted)
    return closed


def _setting(name: str) -> str:
    return _text(f"/proc/sys/{name.replace('.', '/')}").strip()


def _has_temporary_directory() -> bool:
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return False
    return True


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
