"""A child without a sandbox around it: where the policy turns it off, or degrades on a host that cannot make one.

What still holds: the planned identity, the curated environment, the limits per process, the wall clock and the output
cap, no inherited descriptor, and an end of the whole tree. For that end the child has a spawner of its own,
which adopts whatever loses its parent, so that a double fork does not leave the tree. What does not hold is
what the report calls not enforced; and a hostile child that has the spawner's own uid can kill the spawner,
and so outlive its run.
"""

from __future__ import annotations

from collections.abc import Mapping

from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.leases import Lease
from ringfence.sandbox.launch.making.folders import Folder
from ringfence.sandbox.launch.making.scratch import STATE, Scratch
from ringfence.sandbox.launch.supervision.kill import kill_under
from ringfence.sandbox.processes.spawner import Child, Spawner


class PlainTree:
    """The processes of one plain run, its scratch directory and its script's. Close it when the run is over."""

    def __init__(self, owner: Identity | Lease, *, state: bool = False) -> None:
        """Start the run's own spawner, and make its scratch.

        Of a uid that the run has to itself, the spawner is another's, so that the run cannot end it.

        Raises:
            OSError: if there can be no scratch.
            SpawnFailed: if the spawner does not get the identity.
        """
        self._lease = owner if isinstance(owner, Lease) else None
        self._scratch = Scratch(*(owner.identity if isinstance(owner, Lease) else owner), state=state)
        self.home = self._scratch.home
        self.state = f"{self.home}/{STATE}"
        self.folder = Folder(f"{self._scratch.path}/script")
        try:
            self._spawner = Spawner(
                owner.spawner if isinstance(owner, Lease) else owner,
                plain=True,
                leaving=self._lease is not None,
                holds=self._scratch.lock,
            )
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
        return self._spawner.spawn(
            executable, argv, {**environment, **places}, descriptors, lease=self._lease
        )

    def kill(self) -> tuple[int, ...]:
        """End every descendant of the spawner; those that are left alive. Takes its time: not for an event loop."""
        return kill_under(self._spawner.pid)

    def close(self) -> None:
        """End what is left, and remove the scratch."""
        if self.kill():
            # Its spawner goes on, and adopts what loses its parent; ended by us, it would leave that to nobody.
            self._spawner.leave()
        else:
            self._spawner.close()
        self._scratch.close()
