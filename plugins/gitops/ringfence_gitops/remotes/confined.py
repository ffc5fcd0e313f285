"""What a process of git may open, by Landlock, where the kernel has it.

Threat: a flaw in git's reading of what a remote sends lets the remote run code as the host: it would read the host's
keys. Mechanism: the process, and all that it starts, can open programs, libraries, what names and certificates are
looked up in, and the directory of this one fetch; it has no new privileges. Not covered: kernels without Landlock, and
what such code may connect to.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from typing import Any

from ringfence.sandbox.filters import landlock_main
from ringfence.sandbox.filters.landlock import DEVICE, DEVICES, PROGRAMS, READ, READABLE, SCRATCH, Confinement

LANDLOCK_PROGRAM = landlock_main.__file__
_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store")
_LOOKED_UP = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/gai.conf", "/etc/services", "/etc/protocols"),
    *("/etc/passwd", "/etc/group", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/crypto-policies"),
)
_VERSION_OF_THE_RULES = 1


@functools.cache
def abi() -> int:
    """The kernel's version of Landlock; 0 where it has none."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = libc.syscall(landlock_main.CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_OF_THE_RULES)
    return max(0, int(found))


def orders_for(directory: str, program: str, readable: Sequence[str]) -> dict[str, Any] | None:
    """The orders for `landlock_main`; None where the kernel has no Landlock."""
    version = abi()
    if version == 0:
        return None
    handled = Confinement(version, True, (), (), True, None, "").handled
    rules = [
        *((path, PROGRAMS) for path in (*_PROGRAMS, os.path.dirname(os.path.realpath(program)))),
        *((path, READ) for path in (*READABLE, *_LOOKED_UP, *readable)),
        *((path, DEVICE) for path in DEVICES),
        (directory, SCRATCH),
    ]
    return {
        "attributes": [int(handled), 0, 0],
        "size": 8,
        "rules": [[path, int(access & handled)] for path, access in rules if os.path.exists(path)],
        "ports": [],
        "filters": [],
    }
