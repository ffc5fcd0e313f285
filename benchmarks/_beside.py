"""Runs of this checkout beside those of another, one by one in turns: what a change costs, also on a busy machine.

Each checkout has a process of its own (`_served_runs`), and its own interpreter. A moment that is noisy hits both, so
the ratio of their medians is what to look at. The processor time says more still where others use the machine: it is
of the process that serves the runs and of all that it starts, for each run, with what is prepared for the next one.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

SERVED = Path(__file__).with_name("_served_runs.py")
AT_ONCE_RUNS = 32
"""So many runs at once are one measurement; the runner has 16 of them under way."""


class Took(NamedTuple):
    """Milliseconds for each run: by the clock, and of the processors."""

    clock: float
    processors: float


@dataclass(frozen=True)
class Compared:
    """One subject: milliseconds per run of the other checkout and of ours."""

    subject: str
    other_ms: float
    ours_ms: float
    ratio: float
    other_cpu_ms: float
    ours_cpu_ms: float
    cpu_ratio: float


class Served:
    """The process of one checkout."""

    def __init__(self, python: str) -> None:
        """Start it."""
        # With `-P`, since the modules beside it are called as some of the standard library.
        self._process = subprocess.Popen(
            [python, "-P", str(SERVED)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def measure(self, asked: dict[str, Any]) -> Took:
        """Have it run something."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._process.args!r} ended")
        clock, own, others = json.loads(answer)
        return Took(clock, own + others)

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def compared(checkout: Path, rounds: int) -> list[Compared]:
    """All subjects, of the checkout at this path and of ours."""
    other, ours = Served(str(checkout / ".venv/bin/python")), Served(sys.executable)
    found = []
    try:
        for runs in (1, AT_ONCE_RUNS):
            for warm in (False, True):
                for kind in ("shell", "python"):
                    asked = {"kind": kind, "warm": warm, "runs": runs}
                    name = f"{kind:8}{'warm' if warm else 'cold'}{', 16 at once' if runs > 1 else ''}"
                    found.append(
                        _turns(name, other, ours, asked, rounds if runs == 1 else max(rounds // 4, 4))
                    )
    finally:
        other.close()
        ours.close()
    return found


def _turns(name: str, other: Served, ours: Served, asked: dict[str, Any], rounds: int) -> Compared:
    took: dict[Served, list[Took]] = {other: [], ours: []}
    for served in took:
        # The second run of a kind has sandboxes prepared for the third.
        for _ in range(3):
            served.measure(asked)
    for turn in range(rounds):
        for served in (other, ours) if turn % 2 else (ours, other):
            took[served].append(served.measure(asked))
    clock = {served: statistics.median(one.clock for one in took[served]) for served in took}
    # The kernel tells that of others in ticks, so what tells something is the mean.
    processors = {served: statistics.mean(one.processors for one in took[served]) for served in took}
    return Compared(
        subject=name,
        other_ms=round(clock[other], 2),
        ours_ms=round(clock[ours], 2),
        ratio=round(clock[ours] / clock[other], 2),
        other_cpu_ms=round(processors[other], 2),
        ours_cpu_ms=round(processors[ours], 2),
        cpu_ratio=round(processors[ours] / processors[other], 2),
    )


def show(figures: list[Compared], *, as_json: bool) -> None:
    """Print them, with the load of the machine by now."""
    if as_json:
        print(json.dumps([asdict(figure) for figure in figures]))
        return
    print(f"{'ms per run':26}{'other':>9}{'ours':>9}{'ratio':>7}{'cpu, other':>13}{'ours':>9}{'ratio':>7}")
    for one in figures:
        print(
            f"{one.subject:26}{one.other_ms:>9}{one.ours_ms:>9}{one.ratio:>7}"
            f"{one.other_cpu_ms:>13}{one.ours_cpu_ms:>9}{one.cpu_ratio:>7}"
        )
    print(f"load average: {os.getloadavg()[0]:.1f}")
