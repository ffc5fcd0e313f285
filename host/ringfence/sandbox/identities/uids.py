"""The range of uids that runs are given, each one of its own.

Threat: much of what the kernel counts, it counts per user: epoll watches, queued signals and timers, message queues,
descriptors under way over sockets, pipe buffers, locked memory, processes. A run with another's uid can take all of
it, and can signal and trace whatever else that uid runs.

Mechanism: a block of numbers that belong to nobody, of which each concurrent run has one (`leases`). By default that
is a block that no allocation of Linux systems reaches (https://systemd.io/UIDS-GIDS: from 1879048192 on, nothing is
assigned); where a user namespace around us does not map that (a rootless container), the unused numbers below 61184;
`RINGFENCE_UIDS` names another. The last number of a range is the spawner's own, so that no run can signal it. A
supervisor that is not root gives out the subordinate uids of its user (`subordinates`).

Not covered: what the kernel counts for the machine as a whole; and somebody else who gives out the same numbers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ringfence.sandbox.faults import Unavailable, is_passing
from ringfence.sandbox.identities import subordinates
from ringfence.sandbox.identities.identity import Identity

SETTING = "RINGFENCE_UIDS"
"""The environment variable that names the range: `FIRST-LAST`, or `FIRST:COUNT`."""

HIGHEST = 2**32 - 2
"""The highest number that is one: the next means "none" (setresuid(2))."""

OVERFLOW = (65534, 65535)
"""What stands for users that cannot be told, and what once meant "none": nobody's, and not for giving out."""

FEWEST = 3
"""A run's, the one that ends its processes (`spawning.cleaning`), and the spawner's."""


class UidRangeError(ValueError):
    """The text is no range of uids that runs could have; the message says why."""


@dataclass(frozen=True, slots=True)
class UidRange:
    """The numbers from `first` to `last`; a uid and the gid of the same number are given out together."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def __contains__(self, uid: object) -> bool:
        return isinstance(uid, int) and self.first <= uid <= self.last

    @property
    def places(self) -> int:
        """How many runs can have one at the same time."""
        return self.last - self.first

    @property
    def spawner(self) -> Identity:
        """Whom the spawner itself runs as: the last one, which no run gets."""
        return Identity(self.last, self.last)

    @classmethod
    def parse(cls, text: str) -> UidRange:
        """The range that a setting names.

        Raises:
            UidRangeError: saying what is wrong with it.
        """
        found = re.fullmatch(r"([0-9]{1,10})([-:])([0-9]{1,10})", text)
        if found is None:
            raise UidRangeError(f"must be FIRST-LAST or FIRST:COUNT, such as {DEFAULT}, not {text!r}")
        first, last = int(found[1]), int(found[3])
        if found[2] == ":":
            last += first - 1
        if first < 1 or last > HIGHEST:
            raise UidRangeError(f"must lie within 1-{HIGHEST}, and {text} does not")
        if last - first + 1 < FEWEST:
            raise UidRangeError(f"must have at least {FEWEST} numbers, and {text} does not")
        if any(first <= number <= last for number in OVERFLOW):
            raise UidRangeError(f"must not contain {' or '.join(map(str, OVERFLOW))}, and {text} does")
        return cls(first, last)


@dataclass(frozen=True, slots=True)
class SubordinateRange(UidRange):
    """The subordinate uids of a supervisor that is not root, all of them for runs: the spawner has `own`."""

    own: Identity

    @property
    def places(self) -> int:
        """How many runs can have one at the same time."""
        return self.last - self.first + 1

    @property
    def spawner(self) -> Identity:
        """Whom the spawner runs as: the supervisor's own user, which is no run's."""
        return self.own


DEFAULT = UidRange(2_000_000_000, 2_000_065_535)
BELOW_65536 = UidRange(60_600, 61_183)
"""For where only the first 65,536 numbers are mapped. Systemd's table names nobody for these."""


def configured(environment: str | None) -> UidRange | None:
    """The range that the setting's text names; None if it is unset. Raises `UidRangeError`."""
    return UidRange.parse(environment) if environment else None


def of_root() -> UidRange:
    """The range of a supervisor that is root.

    Raises:
        Unavailable: if it cannot give out any.
    """
    try:
        named = configured(os.environ.get(SETTING))
    except UidRangeError as error:
        raise Unavailable(f"{SETTING} {error}") from error
    maps = [mapped(Path(f"/proc/self/{kind}_map").read_text()) for kind in ("uid", "gid")]
    candidates = (named,) if named is not None else (DEFAULT, BELOW_65536)
    for candidate in candidates:
        if all(_covers(each, candidate) for each in maps):
            return candidate
    raise Unavailable(
        f"the user namespace that we are in does not map {' or '.join(map(str, candidates))}"
        " (/proc/self/uid_map, /proc/self/gid_map)"
    )


def of_user() -> SubordinateRange:
    """The range of a supervisor that is not root: subordinate uids, mapped and ready.

    Raises:
        Unavailable: if it has none that can be used.
    """
    try:
        ids, _ = subordinates.namespace()
    except subordinates.NoSubordinatesError as error:
        reason = f"only root, and whoever has subordinate uids, gives out uids: {error}"
        raise Unavailable(reason, passing=is_passing(reason)) from error
    return SubordinateRange(ids.uid, ids.last, Identity(os.geteuid(), os.getegid()))


def mapped(text: str) -> tuple[UidRange, ...]:
    """The ranges that a map (user_namespaces(7)) makes usable inside."""
    rows = (tuple(map(int, line.split())) for line in text.splitlines())
    return tuple(UidRange(first, first + count - 1) for first, _, count in rows)


def _covers(ranges: Sequence[UidRange], wanted: UidRange) -> bool:
    return any(each.first <= wanted.first and wanted.last <= each.last for each in ranges)
