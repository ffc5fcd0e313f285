"""What a test needs of the machine: named, and never skipped in silence."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from typing import NoReturn

import pytest

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


_PRIMITIVES: dict[str, Callable[[], bool]] = {
    "root": lambda: os.geteuid() == 0,
    "mount namespaces": lambda: _runs("unshare", "--mount", "true"),
    "user namespaces": _user_namespaces,
    "slirp4netns": lambda: _program("slirp4netns"),
    "pasta": lambda: _program("pasta"),
    "nft": lambda: _program("nft"),
    "ip": lambda: _program("ip"),
    "node": lambda: _program("node"),
    "gcc": lambda: _program("gcc"),
}


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
        return pytest.mark.usefixtures("fail_for_missing_primitive")
    return pytest.mark.skipif(bool(missing), reason=f"this machine lacks: {', '.join(missing)}")
