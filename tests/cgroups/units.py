"""Cgroups as systemd gives them to its units, and supervisors that are started in them."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ringfence.sandbox.limits.cgroups import delegation

from tests.waiting import wait_until

DELEGATED_FILES = ("cgroup.procs", "cgroup.threads", "cgroup.subtree_control")
"""What is given to a unit's user beside the directory itself (cgroups(7), "Delegation")."""


@contextlib.contextmanager
def unit(
    uid: int = 0, *, delegate: bool = True, mark: bool = True, name: str | None = None
) -> Iterator[Path]:
    """A unit's cgroup, with what systemd does for `User=` and `Delegate=yes`. What is in it ends with it.

    Without `mark`, as others do who give a cgroup to a user.
    """
    path = Path(delegation.mounts()[0], name or f"ringfence-test-{secrets.token_hex(4)}")
    path.mkdir()
    try:
        if delegate:
            if mark:
                os.setxattr(path, "user.delegate", b"1")
            for given in (path, *(path / name for name in DELEGATED_FILES)):
                os.chown(given, uid, uid)
        yield path
    finally:
        remove(path)


def remove(path: Path) -> None:
    """End everything in a cgroup, and remove it with all that is under it."""
    (path / "cgroup.kill").write_text("1")
    wait_until(lambda: "populated 0" in (path / "cgroup.events").read_text())
    for inner in sorted(path.rglob("*/"), reverse=True):
        inner.rmdir()
    path.rmdir()


def start(
    group: Path,
    uid: int,
    command: Sequence[str],
    environment: Mapping[str, str],
    others: Sequence[Path] = (),
) -> subprocess.Popen[str]:
    """Start a program in a cgroup as a user, as systemd does; in cgroup v1, in others of other hierarchies too."""
    entering = [f"echo 0 >{shlex.quote(str(each))}/cgroup.procs && " for each in (group, *others)]
    enter = f'{"".join(entering)}exec "$@"'
    become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
    arguments = ["sh", "-c", enter, "sh", *become, *command]
    return subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(environment), cwd="/"
    )


def runs_in(subtree: Path) -> list[Path]:
    """The cgroups of runs under a subtree."""
    return list(subtree.glob("run-*"))
