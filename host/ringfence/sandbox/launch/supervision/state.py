"""What a run keeps for the next one: put into its state directory before it starts, and read when it has ended.

Threat: a script that leaves what leads its reader elsewhere, fills the host, or reads what others keep. Mechanism: the
directory is a tmpfs in the run's own room, so the kernel holds its size, and nobody else has a way to it. The
supervisor opens it, as a place alone, while only the bootstrap is in the room; by that descriptor it is filled before
the script starts, and read when the last process is gone. Both is done as the run's own user: `spawning.keeping` says
how what is hostile in it is met. Not covered: in a run without namespaces the directory is one of the host's, with no
bound while the script runs.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass

from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.leases import Lease
from ringfence.sandbox.launch.unmounts import UNMOUNTS
from ringfence.sandbox.plan.furnish import STATE
from ringfence.sandbox.processes.spawner import Spawner, SpawnFailed, spawner_for

_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_WORDS = 1000


class StateError(RuntimeError):
    """A state cannot be put into its directory, or taken out; the message says why."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a run has left: an archive of it, and the names of what is not in that; or why nothing can be kept."""

    archive: bytes | None
    left_out: tuple[str, ...] = ()
    problem: str | None = None


def is_of_a_signal(exit_code: int) -> bool:
    """Whether this is how something ends that a signal has killed: wrappers and shells tell that as 128 and more."""
    return exit_code < 0 or 128 < exit_code <= 128 + signal.SIGRTMAX


class StateDirectory:
    """One run's state directory, held by a descriptor. Close it."""

    def __init__(self, path: str, owner: Identity | Lease, most: int) -> None:
        """Hold the directory at `path`. Raises StateError."""
        try:
            self._directory = os.open(path, _PLACE)
        except OSError as error:
            raise StateError(f"the state directory cannot be opened: {error.strerror}") from error
        self._owner = owner
        self._most = most

    @classmethod
    def inside(cls, init: int, owner: Identity | Lease, most: int) -> StateDirectory:
        """That of the room whose init is the process `init`. Raises StateError."""
        return cls(f"/proc/{init}/root{STATE}", owner, most)

    def fill(self, archive: bytes) -> None:
        """Put into it what was kept. Raises StateError."""
        if archive:
            self._ask({"state": "fill"}, archive)

    def gather(self) -> Gathered:
        """What is in it now, when all processes of the run are gone."""
        try:
            answer = self._ask({"state": "gather", "most": self._most}, b"")
        except StateError as error:
            return Gathered(None, problem=str(error))
        head, _, archive = answer.partition(b"\n")
        return Gathered(archive, tuple(map(str, json.loads(head))))

    def close(self) -> None:
        """Let it go, and with it the last of the room's mounts: a script decides how long the kernel takes for that."""
        UNMOUNTS.add(self._directory)

    def _ask(self, order: dict[str, object], given: bytes) -> bytes:
        """Have it done, and return what was answered. Raises StateError."""
        try:
            archive = os.memfd_create("ringfence-state", os.MFD_CLOEXEC)
        except OSError as error:
            raise StateError(f"a memory file cannot be made: {error.strerror}") from error
        lease = self._owner if isinstance(self._owner, Lease) else None
        with os.fdopen(archive, "r+b", buffering=0) as file:
            try:
                _write(archive, given)
                done = _spawner(self._owner).keep(order, self._directory, archive, lease)
            except (OSError, SpawnFailed) as error:
                raise StateError(str(error)) from error
            file.seek(0)
            if not done:
                raise StateError(file.read(_MOST_WORDS).decode(errors="replace"))
            return file.readall() or b""


def _write(file: int, data: bytes) -> None:
    at = 0
    while at < len(data):
        at += os.pwrite(file, data[at:], at)


def _spawner(owner: Identity | Lease) -> Spawner:
    """What is of the run's identity, or leaves for it. Raises SpawnFailed."""
    if isinstance(owner, Lease):
        return spawner_for(owner.spawner, leaving=True)
    return spawner_for(owner)
