"""What one lock of a set has that another has not: packages and their versions. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from ringfence.scripts.packages.lock import Ecosystem, Lock


@dataclass(frozen=True, slots=True)
class Difference:
    """One package: the versions that it had, and those that it has. Node.js packages may have several at once."""

    ecosystem: Ecosystem
    name: str
    before: tuple[str, ...]
    after: tuple[str, ...]


def differences(before: Lock, after: Lock) -> list[Difference]:
    """The packages whose versions differ, by name."""
    had, has = _versions(before), _versions(after)
    return [
        Difference(*key, had.get(key, ()), has.get(key, ()))
        for key in sorted(had.keys() | has.keys())
        if had.get(key) != has.get(key)
    ]


def _versions(lock: Lock) -> dict[tuple[Ecosystem, str], tuple[str, ...]]:
    found: dict[tuple[Ecosystem, str], set[str]] = defaultdict(set)
    for one in lock.python:
        found[Ecosystem.PYPI, one.name].add(one.version)
    for each in lock.node:
        found[Ecosystem.NPM, each.name].add(each.version)
    return {key: tuple(sorted(versions)) for key, versions in found.items()}
