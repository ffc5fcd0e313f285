"""Containers that are like machines: systemd is their first process, and root there may do what systemd does.

They have no filter of system calls and most capabilities, but not those for modules, the clock and raw devices; and
cgroups of version 2 alone, whatever the machine has beside them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.containers import runtime
from tests.containers.runtime import MARK, Flags, Image, Running
from tests.waiting import wait_until

CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        *("AUDIT_WRITE", "BPF", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK"),
        *("IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE"),
        *("NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN"),
        *("SYS_CHROOT", "SYS_NICE", "SYS_PTRACE", "SYS_TTY_CONFIG"),
    )
]
BUMPED = [Path("/proc/sys/fs", name) for name in ("file-max", "nr_open")]
"""What systemd raises as it starts, for the whole kernel."""


def unified() -> Path | None:
    """Where cgroups of version 2 are mounted, if they are."""
    found = re.search(r"^\S+ (\S+) cgroup2 ", Path("/proc/mounts").read_text(), re.MULTILINE)
    return None if found is None else Path(found[1])


@contextlib.contextmanager
def booted(image: Image, cgroups: Path, directory: Path) -> Iterator[Running]:
    """A machine that has come up; it is gone with the context, and the kernel's settings are what they were."""
    name = f"{MARK}{secrets.token_hex(6)}"
    place, cgroup = directory / name, cgroups / name
    place.mkdir()
    (place / "config.json").write_text(json.dumps(_configuration(image, place)))
    kept = {path: path.read_text() for path in BUMPED}
    cgroup.mkdir()
    output = place / "output"
    join = f'echo $$ >{cgroup}/cgroup.procs && exec runc run --bundle "$1" "$2"'
    try:
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["sh", "-c", join, "sh", str(place), name],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        machine = Running(name, process, output)
        with process:
            try:
                wait_until(lambda: process.poll() is not None or _is_up(machine), "systemd is up")
                assert process.poll() is None, machine.said
                # Where it has booted a machine itself, services see the mounts that it makes for them.
                machine.execute("mount", "--make-rshared", "/")
                yield machine
            finally:
                subprocess.run(["runc", "kill", name, "KILL"], capture_output=True)
    finally:
        subprocess.run(["runc", "delete", "--force", name], capture_output=True)
        for path, text in kept.items():
            path.write_text(text)
        wait_until(lambda: _is_removed(cgroup), "its cgroups are empty")


def _configuration(image: Image, place: Path) -> dict[str, Any]:
    flags = Flags(
        seccomp=None,
        unmasked=True,
        tun=True,
        uid=0,
        entrypoint=("/usr/lib/systemd/systemd",),
        environment={"container": "oci"},
        tmpfs={"/run": "rw,exec,mode=755", "/tmp": "rw,exec,mode=1777"},
    )
    configuration = runtime.bundle(image, flags, ["--show-status=no"], place)
    process, linux = configuration["process"], configuration["linux"]
    process["noNewPrivileges"] = False
    process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)
    process["cwd"] = "/"
    # What the image says to programs in it, services and their commands are told by nobody.
    process["env"] = [each for each in process["env"] if not each.startswith(("HOME=", "RINGFENCE_"))]
    configuration["mounts"] = [
        *(each for each in configuration["mounts"] if each["destination"] != "/sys/fs/cgroup"),
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup2",
            "source": "cgroup2",
            "options": ["nosuid", "nodev", "noexec"],
        },
    ]
    linux["namespaces"].append({"type": "cgroup"})
    linux["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
    return configuration


def _is_up(machine: Running) -> bool:
    return machine.execute("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"}


def _is_removed(cgroup: Path) -> bool:
    """Whether it is gone with all beneath it, which is removed where nothing runs any more."""
    for directory, _, _ in os.walk(cgroup, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return not cgroup.exists()
