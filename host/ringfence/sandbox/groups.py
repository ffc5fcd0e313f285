"""Cgroups for runs, of whichever version this host has for us: finding where, and making one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ringfence.sandbox import delegation, legacy
from ringfence.sandbox.cgroup import RunGroup, UnifiedGroup
from ringfence.sandbox.delegation import NotDelegated


@dataclass(frozen=True, slots=True)
class Place:
    """Where runs can have cgroups: the subtree as text, what holds them there, and where cgroups are mounted."""

    subtree: str
    detail: str
    mounts: Sequence[str]


def find(named: str | None) -> Place:
    """The subtree that is ours, made ready and proven; v2 comes first.

    Raises:
        NotDelegated: with why there is none.
    """
    try:
        return _unified(named)
    except NotDelegated as lacking:
        if not legacy.limits_memory():
            raise
        try:
            return _legacy(named)
        except NotDelegated as also:
            raise NotDelegated(f"{lacking}; {also}") from None


def _unified(named: str | None) -> Place:
    subtree = delegation.find(named)
    delegation.make_ready(subtree)
    delegation.prove(
        subtree, lambda memory, processes: UnifiedGroup(subtree, memory_bytes=memory, processes=processes)
    )
    return Place(str(subtree), f"memory.max, pids.max and cgroup.kill under {subtree}", delegation.mounts())


def _legacy(named: str | None) -> Place:
    subtree = legacy.find(named)
    legacy.make_ready(subtree)
    delegation.prove(
        subtree.memory,
        lambda memory, processes: legacy.LegacyGroup(subtree, memory_bytes=memory, processes=processes),
    )
    detail = f"memory.limit_in_bytes and pids.max of cgroup v1 under {subtree.memory} and {subtree.pids}"
    return Place(str(subtree), detail, (*legacy.mounts(), *delegation.mounts()))


def make_group(subtree: str, *, memory_bytes: int, processes: int) -> RunGroup:
    """A new cgroup with these limits, under a subtree as `find` names it. Raises OSError."""
    old = legacy.Subtree.parse(subtree)
    if old is not None:
        return legacy.LegacyGroup(old, memory_bytes=memory_bytes, processes=processes)
    return UnifiedGroup(Path(subtree), memory_bytes=memory_bytes, processes=processes)
