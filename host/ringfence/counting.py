"""Counts and distributions that a process keeps of what it does, for whoever asks how much there was.

Everything is in memory, begins at nothing, and only grows. How many different labels are told apart is bounded: what
comes beyond is counted together, as `OTHER`.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence

OTHER = "other"
MOST_LABELS = 200
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""The bounds of a distribution of durations."""

Labels = tuple[str, ...]


class Counts:
    """How often something has happened, by its labels."""

    def __init__(self, *, most: int = MOST_LABELS) -> None:
        self._most = most
        self._counts: dict[Labels, float] = {}

    def add(self, *labels: str, number: float = 1.0) -> None:
        """It has happened once more, or `number` times."""
        if labels not in self._counts and len(self._counts) >= self._most:
            labels = (OTHER,) * len(labels)
        self._counts[labels] = self._counts.get(labels, 0.0) + number

    def items(self) -> Sequence[tuple[Labels, float]]:
        """The labels that there were, each with its count."""
        return tuple(self._counts.items())

    def of(self, *labels: str) -> float:
        """How often it has happened with these labels."""
        return self._counts.get(labels, 0.0)


class Level:
    """How many there are at the moment: one more while a block of it runs."""

    def __init__(self) -> None:
        self.now = 0

    def __enter__(self) -> None:
        self.now += 1

    def __exit__(self, *_: object) -> None:
        self.now -= 1


class Distribution:
    """How many values lay below each of some bounds, and their sum."""

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.sum = 0.0
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """There was one more."""
        self._counts[bisect.bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Each bound, the last one infinite, with how many values were not above it."""
        total = 0
        for bound, count in zip((*self.bounds, float("inf")), tuple(self._counts), strict=True):
            total += count
            yield bound, total


class Distributions:
    """A distribution for each set of labels."""

    def __init__(self, bounds: Sequence[float] = SECONDS, *, most: int = MOST_LABELS) -> None:
        self._bounds = bounds
        self._most = most
        self._by_labels: dict[Labels, Distribution] = {}

    def observe(self, value: float, *labels: str) -> None:
        """There was one more with these labels."""
        if labels not in self._by_labels and len(self._by_labels) >= self._most:
            labels = (OTHER,) * len(labels)
        self._by_labels.setdefault(labels, Distribution(self._bounds)).observe(value)

    def items(self) -> Sequence[tuple[Labels, Distribution]]:
        """The labels that there were, each with its distribution."""
        return tuple(self._by_labels.items())
