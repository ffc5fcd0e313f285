"""Containers as Docker makes them, by runc alone: what its flags mean, as a bundle of the OCI.

The defaults are Docker's: its namespaces, its masked and read-only paths, no device but the harmless ones. There are no
capabilities, and no program gives new ones, as docs/containers.md has it. cgroups are runc's own, of either version.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats"),
    *("/sys/devices/virtual/powercap", "/sys/firmware"),
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""What Docker hides of its containers, and what it only shows them (oci/defaults.go of Moby)."""

MARK = "ringfence-test-"
"""What names of containers begin with."""

PLAIN = ["nosuid", "noexec", "nodev"]
DEVICE = ["nosuid", "strictatime"]


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What a container is started with."""

    seccomp: Mapping[str, Any] | None
    """The filter of system calls; None is Docker's "unconfined"."""
    unmasked: bool = False
    tun: bool = False
    read_only: bool = False
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    uid: int = 65532
    entrypoint: Sequence[str] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Directories of the machine by their places in the container, with ":ro" after those that it may only read."""
    network_of: int | None = None
    """A process whose network the container shares, as those of a pod do."""
    first_uid: int | None = None
    """Where the container's users begin on the machine, if it has a user namespace, as with `hostUsers: false`."""


@dataclass(frozen=True)
class Image:
    """A built image: its file system, and its configuration."""

    root: Path
    config: Mapping[str, Any]


def bundle(image: Image, flags: Flags, command: Sequence[str] | None, place: Path) -> dict[str, Any]:
    """The configuration of a container, with what its runtime provides in `place`; the image's own command if None."""
    given = image.config["config"]
    program = given.get("Entrypoint", ()) if flags.entrypoint is None else flags.entrypoint
    words = [*program, *(given.get("Cmd", ()) if command is None else command)]
    environment = [*given.get("Env", ()), *(f"{name}={value}" for name, value in flags.environment.items())]
    network = {} if flags.network_of is None else {"path": f"/proc/{flags.network_of}/ns/net"}
    return {
        "ociVersion": "1.0.2",
        "hostname": "container",
        "root": {"path": str(image.root), "readonly": flags.read_only},
        "process": {
            "user": {"uid": flags.uid, "gid": flags.uid},
            "args": words,
            "env": environment,
            "cwd": given.get("WorkingDir") or "/",
            "noNewPrivileges": True,
            "capabilities": {},
        },
        "mounts": [*_system(), *_volumes({**_etc(place), **flags.volumes}), *_tmpfs(flags.tmpfs)],
        "linux": {
            "namespaces": [
                *({"type": kind} for kind in ("pid", "ipc", "uts", "mount")),
                {"type": "network", **network},
                *([] if flags.first_uid is None else [{"type": "user"}]),
            ],
            **_mappings(flags.first_uid),
            "devices": [_device("/dev/net/tun")] if flags.tun else [],
            "resources": {"devices": [{"allow": False, "access": "rwm"}, *_devices(tun=flags.tun)]},
            "maskedPaths": [] if flags.unmasked else list(MASKED),
            "readonlyPaths": [] if flags.unmasked else list(READ_ONLY),
            **({} if flags.seccomp is None else {"seccomp": flags.seccomp}),
        },
    }


def _system() -> list[dict[str, Any]]:
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": PLAIN},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": [*DEVICE, "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*PLAIN, "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*PLAIN, "ro"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": PLAIN},
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": [*PLAIN, "mode=1777", "size=64m"],
        },
    ]


def _etc(place: Path) -> dict[str, str]:
    """The files that Docker puts into every container."""
    (place / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (place / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    return {f"/etc/{name}": f"{place / name}:ro" for name in ("hosts", "resolv.conf")}


def _mappings(first: int | None) -> dict[str, Any]:
    mapping = [{"containerID": 0, "hostID": first, "size": 65536}]
    return {} if first is None else {"uidMappings": mapping, "gidMappings": mapping}


def _volumes(volumes: Mapping[str, str]) -> list[dict[str, Any]]:
    made = []
    for place, source in volumes.items():
        path, _, how = source.partition(":")
        made.append(
            {
                "destination": place,
                "type": "bind",
                "source": path,
                "options": ["rbind", "rprivate", how or "rw"],
            }
        )
    return made


def _tmpfs(places: Mapping[str, str]) -> list[dict[str, Any]]:
    """Docker mounts these without set-uid programs and devices; without "exec", nothing in them can be run."""
    return [
        {
            "destination": place,
            "type": "tmpfs",
            "source": "tmpfs",
            "options": [
                "nosuid",
                "nodev",
                *([] if "exec" in how.split(",") else ["noexec"]),
                *how.split(","),
            ],
        }
        for place, how in places.items()
    ]


def _device(path: str) -> dict[str, Any]:
    number = os.stat(path).st_rdev
    found = {"path": path, "type": "c", "major": os.major(number), "minor": os.minor(number)}
    return {**found, "fileMode": 0o666, "uid": 0, "gid": 0}


def _devices(*, tun: bool) -> list[dict[str, Any]]:
    harmless = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, None)]
    number = os.stat("/dev/net/tun").st_rdev if tun else 0
    allowed = [*harmless, *([(os.major(number), os.minor(number))] if tun else [])]
    return [
        {
            "allow": True,
            "type": "c",
            "major": major,
            **({} if minor is None else {"minor": minor}),
            "access": "rwm",
        }
        for major, minor in allowed
    ]


class Running:
    """A container whose process is under way."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], output: Path) -> None:
        self.name = name
        self.process = process
        self._output = output

    @property
    def said(self) -> str:
        """What it has written so far."""
        return self._output.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The container's first process, as the machine numbers it; 0 if there is none yet."""
        told = subprocess.run(["runc", "state", self.name], capture_output=True, text=True)
        return int(json.loads(told.stdout)["pid"]) if told.returncode == 0 else 0

    def execute(
        self, *words: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program beside the container's own, as its user."""
        more = [
            option for name, value in (environment or {}).items() for option in ("--env", f"{name}={value}")
        ]
        return subprocess.run(
            ["runc", "exec", *more, self.name, *words], capture_output=True, text=True, timeout=120
        )


@contextlib.contextmanager
def running(image: Image, flags: Flags, command: Sequence[str] | None, directory: Path) -> Iterator[Running]:
    """A container of the image; it is gone with the context, however that ends."""
    name = f"{MARK}{secrets.token_hex(6)}"
    place = directory / name
    place.mkdir()
    config = bundle(image, flags, command, place)
    (place / "config.json").write_text(json.dumps(config))
    output = place / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            ["runc", "run", "--bundle", str(place), name],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        with process:
            try:
                yield Running(name, process, output)
            finally:
                subprocess.run(["runc", "kill", name, "KILL"], capture_output=True)
    finally:
        subprocess.run(["runc", "delete", "--force", name], capture_output=True)


def run(
    image: Image, flags: Flags, command: Sequence[str] | None, directory: Path, *, seconds: float = 300
) -> tuple[int, str]:
    """The exit status of a container that ends by itself, and what it wrote."""
    with running(image, flags, command, directory) as container:
        return container.process.wait(timeout=seconds), container.said
