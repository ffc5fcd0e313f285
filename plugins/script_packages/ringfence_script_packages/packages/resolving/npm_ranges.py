"""Whether a version of npm lies in a range, as advisories write ranges (semver). Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

_VERSION = r"v?(\d{1,16})(?:\.(\d{1,16}))?(?:\.(\d{1,16}))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?"
_COMPARATOR = re.compile(rf"(<=|>=|<|>|=)?\s*{_VERSION}")
_LONGEST = 2000


class UnreadableRangeError(ValueError):
    """A range, or a version, is written in another way."""


class _Version(NamedTuple):
    """The numbers, and what comes before them: a release is after all of its own prereleases."""

    numbers: tuple[int, int, int]
    released: bool
    before: tuple[tuple[bool, int, str], ...]


def lies_in(version: str, versions: str) -> bool:
    """Whether a version is one of a range such as `<1.2.3 || >=2.0.0 <2.1.0`; prereleases count by their order.

    Raises:
        UnreadableRangeError: if either cannot be read.
    """
    match = re.fullmatch(_VERSION, version)
    if match is None or len(versions) > _LONGEST:
        raise UnreadableRangeError(version)
    mine = _version(*match.groups())
    return any(_all(mine, part.strip()) for part in versions.split("||"))


def _all(mine: _Version, part: str) -> bool:
    if part in ("", "*", "x", "X"):
        return True
    if _COMPARATOR.sub("", part).strip(" ,"):
        raise UnreadableRangeError(part)
    found = [(each[1] or "=", _version(*each.groups()[1:])) for each in _COMPARATOR.finditer(part)]
    return all(_holds(mine, operator, other) for operator, other in found)


def _holds(mine: _Version, operator: str, other: _Version) -> bool:
    match operator:
        case "<":
            return mine < other
        case "<=":
            return mine <= other
        case ">":
            return mine > other
        case ">=":
            return mine >= other
    return mine == other


def _version(major: str, minor: str | None, patch: str | None, before: str | None) -> _Version:
    numbers = (int(major), int(minor or 0), int(patch or 0))
    parts = before.split(".") if before else []
    # Numbers come before words, and are compared as numbers.
    return _Version(
        numbers,
        not parts,
        tuple(
            (False, int(part), "") if part.isdecimal() and len(part) <= 16 else (True, 0, part)
            for part in parts
        ),
    )
