"""What a test needs of the machine: named, and never skipped in silence."""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from ringfence.sandbox.capabilities import primitives
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.faults import Unavailable
from ringfence.sandbox.limits.cgroups import delegation, legacy, scope

from tests import nsjail
from tools.vm import machine

REQUIRE_ALL = os.environ.get("RINGFENCE_REQUIRE_ALL") == "1"

PROGRAMS = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))
"""Where programs are looked for: the path, and where administrators' are, which is often not on a user's path."""


def _user_namespaces() -> bool:
    """Whether a user namespace can really be made, judged by making one."""
    return _runs("unshare", "--user", "--map-root-user", "true")


def _runs(*command: str) -> bool:
    """Whether `command` is there and succeeds."""
    return (
        shutil.which(command[0]) is not None and subprocess.run(command, capture_output=True).returncode == 0
    )


def _program(name: str) -> bool:
    return shutil.which(name, path=PROGRAMS) is not None


def postgresql() -> Path | None:
    """Where the system's PostgreSQL has its programs, if there is one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found and (found[-1].parent / "psql").exists() else None


def _limiting_cgroups() -> bool:
    """Whether a cgroup can be made whose memory and processes the kernel limits, judged by making one."""
    for mount in delegation.mounts():
        path = Path(mount, f"ringfence-test-{secrets.token_hex(4)}")
        try:
            path.mkdir()
        except OSError:
            continue
        try:
            if set((path / "cgroup.controllers").read_text().split()) >= delegation.NEEDED:
                return True
        finally:
            path.rmdir()
    return False


def _legacy_cgroups() -> bool:
    """Whether a cgroup v1 can be made in the hierarchies of memory and of pids, judged by making one."""
    name = f"ringfence-test-{secrets.token_hex(4)}"
    places = [Path(mount, name) for mount in legacy.mounts() if Path(mount).name in ("memory", "pids")]
    made = []
    try:
        for place in places:
            place.mkdir()
            made.append(place)
    except OSError:
        pass
    finally:
        for place in made:
            place.rmdir()
    return len(made) == 2


def _landlock_scopes() -> bool:
    """Whether the kernel's Landlock knows scopes, which its sixth version brought."""
    try:
        return primitives.has_landlock().abi >= 6
    except Unavailable:
        return False


def _relay() -> bool:
    """Whether a relay can serve a network namespace here, judged by having one."""
    return probe().relay.available


def _virtual_machine() -> bool:
    """Whether there is an emulator and a kernel for it."""
    try:
        machine.find_emulator()
        machine.find_kernel()
    except machine.LacksMachine:
        return False
    return True


_PRIMITIVES: dict[str, Callable[[], bool]] = {
    "nsjail": lambda: nsjail.path() is not None,
    "root": lambda: os.geteuid() == 0,
    "mount namespaces": lambda: _runs("unshare", "--mount", "true"),
    "user namespaces": _user_namespaces,
    "subordinate ids": lambda: _program("newuidmap") and _program("newgidmap"),
    "relay": _relay,
    "slirp4netns": lambda: _program("slirp4netns"),
    "pasta": lambda: _program("pasta"),
    "nft": lambda: _program("nft"),
    "ip": lambda: _program("ip"),
    "node": lambda: _program("node"),
    "tun": lambda: os.geteuid() == 0 or os.access("/dev/net/tun", os.R_OK | os.W_OK),
    "java": lambda: _program("java") and _program("javac"),
    "go": lambda: _program("go"),
    "deno": lambda: deno() is not None,
    "runc": lambda: _program("runc"),
    "buildah": lambda: _program("buildah"),
    "mmdebstrap": lambda: _program("mmdebstrap"),
    "ss": lambda: _program("ss"),
    "curl": lambda: _program("curl"),
    "git": lambda: _program("git"),
    "nginx": lambda: _program("nginx"),
    "haproxy": lambda: _program("haproxy"),
    "bash": lambda: _program("bash"),
    "zsh": lambda: _program("zsh"),
    "fish": lambda: _program("fish"),
    "systemd-analyze": lambda: _program("systemd-analyze"),
    "nc": lambda: _program("nc"),
    "postgresql": lambda: postgresql() is not None,
    "ssh": lambda: _program("ssh") and _program("sshd") and _program("ssh-keygen"),
    "chromium": lambda: _program("chromium"),
    "gcc": lambda: _program("gcc"),
    "iostat": lambda: _program("iostat"),
    "gosu": lambda: _program("gosu"),
    "monitoring plugins": lambda: Path("/usr/lib/nagios/plugins/check_dummy").exists(),
    "munin plugins": lambda: Path("/usr/share/munin/plugins/load").exists(),
    "ping": lambda: _program("ping"),
    "Landlock scopes": _landlock_scopes,
    "limiting cgroups": _limiting_cgroups,
    "systemd": lambda: Path("/usr/lib/systemd/systemd").exists() and _program("systemd-run"),
    "running systemd": scope.BOOTED.is_dir,
    "cgroup v1": _legacy_cgroups,
    "virtual machine": _virtual_machine,
}


def deno() -> Path | None:
    """Deno, as `tools/deno` has put it into the environment."""
    return next(Path(sys.prefix, "deno").glob("deno-*.data/scripts/deno"), None)


@functools.cache
def has(primitive: str) -> bool:
    """Whether this machine offers `primitive`, probed once."""
    return _PRIMITIVES[primitive]()


def lacking(reason: str) -> NoReturn:
    """End a test that finds out while it runs what it lacks: skipped with the reason, or failed if all are needed."""
    (pytest.fail if REQUIRE_ALL else pytest.skip)(reason)


def requires(*primitives: str) -> pytest.MarkDecorator:
    """Mark a test that needs `primitives`: without them it is skipped by name, or fails if all are needed."""
    missing = [name for name in primitives if not has(name)]
    if missing and REQUIRE_ALL:
        return pytest.mark.lacks(*missing)
    return pytest.mark.skipif(bool(missing), reason=f"this machine lacks: {', '.join(missing)}")
