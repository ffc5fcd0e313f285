"""Where runs of this host can have cgroups. Values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LegacySubtree:
    """A cgroup in each hierarchy of cgroup v1: of memory, of pids, and of cpuacct if there is one."""

    memory: Path
    pids: Path
    cpuacct: Path | None = None

    def __str__(self) -> str:
        return "v1:" + ":".join(map(str, self.directories))

    @property
    def directories(self) -> tuple[Path, ...]:
        """Each once; the memory's first. Hierarchies may be mounted together."""
        places = (self.memory, self.pids, *(() if self.cpuacct is None else (self.cpuacct,)))
        return tuple(dict.fromkeys(places))


@dataclass(frozen=True, slots=True)
class Place:
    """A subtree that is ours, of cgroup v2 (its directory) or v1, and where this host has mounted cgroups.

    It may be a transient scope that systemd made for us.
    """

    subtree: Path | LegacySubtree
    mounts: tuple[str, ...] = ()
    is_scope: bool = False

    @property
    def is_legacy(self) -> bool:
        """Whether it is of cgroup v1."""
        return isinstance(self.subtree, LegacySubtree)

    @property
    def detail(self) -> str:
        """What holds the limits there, for people."""
        if isinstance(self.subtree, LegacySubtree):
            memory, pids = self.subtree.memory, self.subtree.pids
            return f"memory.limit_in_bytes and pids.max of cgroup v1 under {memory} and {pids}"
        scope = ", a transient scope of systemd" if self.is_scope else ""
        return f"memory.max, pids.max and cgroup.kill under {self.subtree}{scope}"
