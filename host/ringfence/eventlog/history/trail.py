"""The trail: which events have been read, remembered thinly, to find the place where two histories part. Pure.

A log that was set back has lost its newest events, and has perhaps given their positions to others. An event is known
by its hash, which is over its content, its time and its predecessors; so the newest event of the trail that the log
still has, at its place and with its hash, lies before all that the log has and the reader has not seen.

The newest `DENSE` events are all remembered, of the `DENSE` times two before them every second one, and so on: of a
million some three thousand, and the place is found to within a hundredth of what was lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

DENSE = 256


class Mark(NamedTuple):
    """One event: where it is, and what it is known by."""

    position: int
    hash: bytes


@dataclass(slots=True)
class _Level:
    """The newest `DENSE` marks of every second one that has left the level before it."""

    marks: deque[Mark] = field(default_factory=deque)
    keep: bool = True
    """Whether the next one to leave goes on to the next level, or is forgotten."""


class Trail:
    """What a reader has read, oldest first; it begins with `start`, which are never thinned."""

    def __init__(self, start: Sequence[Mark] = ()) -> None:
        self._start = list(start)
        self._levels: list[_Level] = []
        self._head = self._start[-1] if self._start else None

    @property
    def head(self) -> Mark | None:
        """The newest event; None before the first."""
        return self._head

    def add(self, mark: Mark) -> None:
        """Note an event that is newer than all before."""
        self._head = mark
        for level in self._levels:
            level.marks.append(mark)
            if len(level.marks) <= DENSE:
                return
            mark, kept = level.marks.popleft(), level.keep
            level.keep = not kept
            if not kept:
                return
        self._levels.append(_Level(deque([mark])))

    def marks(self) -> list[Mark]:
        """All that is remembered, oldest first."""
        levels = (mark for level in reversed(self._levels) for mark in level.marks)
        return [*self._start, *levels]

    def cut(self, position: int) -> None:
        """Forget what is after `position`."""
        self._start = [mark for mark in self._start if mark.position <= position]
        for level in self._levels:
            while level.marks and level.marks[-1].position > position:
                level.marks.pop()
        self._head = max(self.marks(), default=None)
