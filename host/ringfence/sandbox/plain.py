"""A child without a sandbox around it: where the policy turns it off, or degrades on a host that cannot make one.

What still holds: the planned identity, the curated environment, the limits per process, the wall clock and the output
cap, no inherited descriptor, and an end of the whole tree. For that end the child has a spawner of its own,
which adopts whatever loses its parent, so that a double fork does not leave the tree. What does not hold is
what the report calls not enforced; and a hostile child that has the spawner's own uid can kill the spawner,
and so outlive its run.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

from ringfence.sandbox.probes import Identity
from ringfence.sandbox.scratch import Scratch
from ringfence.sandbox.spawner import Child, Spawner

KILL_TIMEOUT_S = 2.0


class PlainTree:
    """The processes of one plain run, and its scratch directory. Close it when the run is over."""

    def __init__(self, identity: Identity) -> None:
        """Start the run's own spawner, and make its scratch.

        Raises:
            OSError: if there can be no scratch.
            SpawnFailed: if the spawner does not get the identity.
        """
        self._scratch = Scratch(*identity)
        self.home = self._scratch.home
        try:
            self._spawner = Spawner(identity, plain=True, holds=self._scratch.lock)
        except BaseException:
            self._scratch.close()
            raise

    def spawn(
        self,
        executable: int,
        argv: tuple[str, ...],
        environment: Mapping[str, str],
        descriptors: Mapping[int, int],
    ) -> Child:
        """Start the run's first process, at home in its scratch."""
        places = {"HOME": self.home, "TMPDIR": self.home}
        return self._spawner.spawn(executable, argv, {**environment, **places}, descriptors)

    def kill(self) -> None:
        """SIGKILL every descendant of the spawner, again and again until none is left alive."""
        deadline = time.monotonic() + KILL_TIMEOUT_S
        while living := [pid for pid in descendants(self._spawner.pid) if _lives(pid)]:
            for pid in living:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, 9)
            if time.monotonic() > deadline:
                return

    def close(self) -> None:
        """End what is left, and remove the scratch."""
        self.kill()
        self._spawner.close()
        self._scratch.close()


def descendants(pid: int) -> list[int]:
    """All processes under `pid`, which is not among them."""
    found: list[int] = []
    for thread in _listed(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
            for child in map(int, children):
                found += [child, *descendants(child)]
    return found


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _listed(path: str) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(path)
    return []
