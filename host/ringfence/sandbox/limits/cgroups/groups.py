"""Cgroups for runs, of whichever version this host has for us: finding where, and making one."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

from ringfence.sandbox.limits.cgroups import delegation, legacy, scope
from ringfence.sandbox.limits.cgroups.delegation import NotDelegated
from ringfence.sandbox.limits.cgroups.place import LegacySubtree, Place
from ringfence.sandbox.limits.cgroups.run_group import RunGroup
from ringfence.sandbox.limits.cgroups.unified import UnifiedGroup


def find(named: str | None) -> Place:
    """The subtree that is ours, made ready and proven: v2 comes first, and one that was given before one to ask for.

    Raises:
        NotDelegated: with why there is none.
    """
    # Whoever names one has chosen, and gets no other in its place.
    ways = [lambda: _given(named), *([] if named else [_asked_for])]
    if legacy.limits_memory():
        ways.append(lambda: _legacy(named))
    lacking = []
    for way in ways:
        try:
            return way()
        except NotDelegated as error:
            lacking.append(str(error))
    raise NotDelegated("; ".join(lacking))


def _given(named: str | None) -> Place:
    return _unified(delegation.find(named))


def _asked_for() -> Place:
    subtree = scope.obtain()
    try:
        # Of a user's manager not every version marks what it delegates.
        place = _unified(subtree, ours=True)
    except NotDelegated:
        scope.release()
        raise
    return replace(place, is_scope=True)


def _unified(subtree: Path, *, ours: bool = False) -> Place:
    delegation.make_ready(subtree, ours=ours)
    delegation.prove(
        subtree, lambda memory, processes: UnifiedGroup(subtree, memory_bytes=memory, processes=processes)
    )
    return Place(subtree, delegation.mounts())


def _legacy(named: str | None) -> Place:
    subtree = legacy.find(named)
    legacy.make_ready(subtree)
    delegation.prove(
        subtree.memory,
        lambda memory, processes: legacy.LegacyGroup(subtree, memory_bytes=memory, processes=processes),
    )
    return Place(subtree, (*legacy.mounts(), *delegation.mounts()))


def make_group(place: Place, *, memory_bytes: int, processes: int) -> RunGroup:
    """A new cgroup with these limits, in a place that `find` found. Raises OSError."""
    subtree = place.subtree
    if isinstance(subtree, LegacySubtree):
        return legacy.LegacyGroup(subtree, memory_bytes=memory_bytes, processes=processes)
    try:
        return UnifiedGroup(subtree, memory_bytes=memory_bytes, processes=processes)
    except FileNotFoundError:
        if not scope.is_own(subtree):
            raise
        # Somebody has stopped it, or has taken its controllers away.
        try:
            delegation.make_ready(scope.obtain(), ours=True)
        except NotDelegated as error:
            raise OSError(errno.ENOENT, str(error)) from error
    return UnifiedGroup(subtree, memory_bytes=memory_bytes, processes=processes)
