"""The processes of one run, as long as they are in our hands: looked at, killed, and given back.

They are held by descriptors: a pidfd of the wrapper and one of the init of its namespace, and maybe a cgroup.
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import replace

from ringfence.sandbox.launch.making.prepare import Prepared
from ringfence.sandbox.launch.supervision.kill import kill_namespace
from ringfence.sandbox.launch.supervision.moments import Event, Looked, LookFailed, Now
from ringfence.sandbox.launch.unmounts import UNMOUNTS
from ringfence.sandbox.limits.cgroups.run_group import RunGroup
from ringfence.sandbox.limits.counting.looking import DistantTree
from ringfence.sandbox.limits.counting.tree import NotSeen, Tree, TreeGone
from ringfence.sandbox.plan.model import Reach
from ringfence.sandbox.processes.pidfds import kill, pid_of
from ringfence.sandbox.processes.spawner import Started

_log = logging.getLogger(__name__)


class Custody:
    """What is known of the processes of a prepared sandbox.

    `monitor` is the wrapper, or a plain run's first process; `init` a pidfd of its namespace's init; `group` its
    cgroup. Each is None until it is known. `cpu_s` is the processor time of the whole tree, when that was counted.
    """

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self.monitor: Started | None = None
        self.init: int | None = None
        self.group: RunGroup | None = None
        self.cpu_s: float | None = None
        self._cpu_before: float | None = None
        self._mounts = -1
        self._tree: Tree | DistantTree | None = None

    def hold_mounts(self) -> None:
        """Have its mounts outlive its last process: nobody has to wait until the kernel has undone them."""
        if self.init is not None:
            # Not every supervisor may (ptrace(2), on access): then its init takes longer to end.
            with contextlib.suppress(OSError):
                self._mounts = os.open(f"/proc/{pid_of(self.init)}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def look(self) -> Event:
        """See what it uses: on a thread, since a script decides how long the kernel takes to tell."""
        assert self.init is not None
        try:
            if self._tree is None:
                own_network = self._prepared.plan.reach is not Reach.HOST
                self._tree = self._prepared.tree(pid_of(self.init), own_network=own_network)
            # Of a run with a cgroup of its own, the kernel sees more than the sum of its processes shows.
            limit = self._prepared.plan.resources.memory_bytes
            use = self._tree.look(limit if self.group is None else None)
            if self.ran_out_of_memory():
                # Not every cgroup ends as a whole for that.
                use = replace(use, memory=limit + 1)
            return Looked(use)
        except TreeGone:
            return Now.SAW_NOTHING
        except NotSeen as unseen:
            return LookFailed(str(unseen))
        except Exception as error:
            _log.exception("cannot measure what a run uses")
            return LookFailed(f"{type(error).__name__}: {error}")

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel killed in its cgroup for its memory."""
        return self.group is not None and self.group.ran_out_of_memory()

    def begin_count(self) -> None:
        """Count its processor time from now on, where it has a cgroup that does."""
        if self.group is not None:
            self._cpu_before = self.group.cpu_seconds()

    def end_count(self) -> None:
        """Say how much processor time it has used since."""
        if self.group is not None and self._cpu_before is not None:
            used = self.group.cpu_seconds()
            self.cpu_s = None if used is None else used - self._cpu_before

    @property
    def can_be_killed(self) -> bool:
        """Whether anything is known that `kill_all` could end."""
        return self.init is not None or self._prepared.plain is not None

    def kill_all(self) -> tuple[int, ...]:
        """Kill until nothing is left, and tell what is: on a thread, since a script decides how long that takes."""
        if self._prepared.plain is not None:
            return self._prepared.plain.kill()
        assert self.init is not None
        return kill_namespace(self.init, self.group)

    def close(self) -> None:
        """Close all descriptors but the cgroup's. Whatever still lives is killed."""
        if self._tree is not None:
            self._tree.close()
        if self.init is not None:
            kill(self.init)
            os.close(self.init)
        if self._mounts >= 0:
            UNMOUNTS.add(self._mounts)
        if self.monitor is not None:
            kill(self.monitor.pidfd)
            os.close(self.monitor.pidfd)
