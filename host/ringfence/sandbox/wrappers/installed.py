"""A wrapper's program as it is on this host. A value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Program:
    """Where it is, its version (empty for one that tells none), where it comes from, and what libraries it brings."""

    path: str
    version: str
    origin: str
    libraries: tuple[str, ...] = ()
