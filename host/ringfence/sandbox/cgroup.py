"""A cgroup v2 of its own for a run, where a subtree is given to us: limits that the kernel itself keeps.

The subtree is one that an admin names (`RINGFENCE_CGROUP`), prepared so that its children have the `memory` and `pids`
controllers and that this process may make children and move processes there (under systemd: a unit with
`Delegate=yes`, whose processes are in a sibling of the subtree). It is never guessed: moving ourselves to make room
would be a change to the host that nobody asked for.

A run's processes are moved while only the trusted bootstrap is among them; what the script forks is born inside.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterable
from pathlib import Path

NEEDED = frozenset({"memory", "pids"})


class NotDelegated(Exception):
    """No cgroup v2 subtree with the needed controllers is ours to use; the message says what is lacking."""


def find_delegated(named: str | None) -> Path:
    """The subtree that was named, if it can limit what is put under it.

    Raises:
        NotDelegated: if none was named, it is not a cgroup v2, or its children lack a controller.
    """
    if not named:
        raise NotDelegated("RINGFENCE_CGROUP names no delegated cgroup v2 subtree")
    subtree = Path(named)
    try:
        given = set((subtree / "cgroup.subtree_control").read_text().split())
    except OSError as error:
        raise NotDelegated(f"{named} is not a cgroup v2: {error.strerror}") from error
    if lacking := NEEDED - given:
        raise NotDelegated(f"{named} gives its children no {' and no '.join(sorted(lacking))} controller")
    return subtree


def prove(subtree: Path) -> None:
    """Make a limited cgroup, move a process there and kill it by it.

    Raises:
        NotDelegated: with the step that failed.
    """
    with subprocess.Popen(["sleep", "10"], stdin=subprocess.DEVNULL) as child:
        try:
            group = RunGroup(subtree, memory_bytes=64 * 1024**2, processes=8)
            try:
                group.take([child.pid])
                group.kill()
                child.wait(2)
            finally:
                child.kill()
                child.wait()
                group.remove()
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotDelegated(f"{subtree} cannot be used: {error}") from error
        finally:
            child.kill()


class RunGroup:
    """The cgroup of one run."""

    def __init__(self, subtree: Path, *, memory_bytes: int, processes: int) -> None:
        """Make it, with its limits; swap counts as nothing that a run may have. Raises OSError if that fails."""
        self._path = subtree / f"run-{secrets.token_hex(8)}"
        self._path.mkdir()
        try:
            self._write("memory.max", memory_bytes)
            with contextlib.suppress(FileNotFoundError):
                # There is no such file in a kernel that accounts for no swap.
                self._write("memory.swap.max", 0)
            self._write("memory.oom.group", 1)
            self._write("pids.max", processes)
        except OSError:
            self.remove()
            raise

    def _write(self, name: str, value: int) -> None:
        (self._path / name).write_text(f"{value}\n")

    def take(self, pids: Iterable[int]) -> None:
        """Move processes into it. One that has ended meanwhile is no error; any other failure raises OSError."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                self._write("cgroup.procs", pid)

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed it for its memory."""
        return self._events("memory.events").get("oom_kill", 0) > 0

    def _events(self, name: str) -> dict[str, int]:
        with contextlib.suppress(OSError):
            lines = (self._path / name).read_text().splitlines()
            return {key: int(value) for key, value in (line.split() for line in lines)}
        return {}

    def kill(self) -> None:
        """SIGKILL all of its processes at once."""
        self._write("cgroup.kill", 1)

    def remove(self) -> None:
        """Remove it, when it has no process left; what still has some is left to the next removal."""
        with contextlib.suppress(OSError):
            os.rmdir(self._path)
