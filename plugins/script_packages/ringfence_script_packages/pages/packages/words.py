"""How sizes, states and errors of packages are said to people. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ringfence_script_packages.packages.errors import PackagesError
from ringfence_script_packages.packages.sets import PackageSet, State

_UNITS = ("bytes", "KiB", "MiB", "GiB")
MOST_NAMED = 3
KINDS = {State.CURRENT: "good", State.FAILED: "bad", State.INSTALLING: "warn", State.EMPTY: "off"}
"""How the state of a set is coloured."""


def size(count: float) -> str:
    """A number of bytes: `12.3 MiB`."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def doing(one: PackageSet) -> str:
    """What an installation does just now."""
    progress: Mapping[str, Any] | None = one.progress
    if progress is None:
        return "queued"
    if progress["phase"] == "fetching":
        done = f"{progress['packagesDone']} of {progress['packages']} files"
        return f"fetching {done}, {size(progress['bytesDone'])} of {size(progress['bytes'])}"
    return f"resolving {progress['doing']}".strip()


def failure(error: PackagesError) -> str:
    """Why packages cannot be had, and what to do, as sentences."""
    parts = [error.message.rstrip("."), (error.hint or "").rstrip(".")]
    said = " ".join(f"{part[:1].upper()}{part[1:]}." for part in parts if part)
    return said if error.package is None else f"{error.package}: {said}"


def named(users: Sequence[str]) -> str:
    """The first of some things, and how many more there are."""
    more = len(users) - MOST_NAMED
    return ", ".join(users[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
