"""What this process keeps to itself: paths that no run is shown, whatever its policy shows of the host.

The places of runs' scripts and scratch are among them, and what a program adds: its data directory, its keys and
tokens.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from pathlib import Path

from ringfence.sandbox.launch.making.places import PREFIX, keep_places
from ringfence.sandbox.launch.making.scratch import OTHERS


class Kept:
    """A set of paths, to which any thread may add."""

    def __init__(self) -> None:
        self._paths: dict[str, None] = {}
        self._one_at_a_time = threading.Lock()

    def add(self, *paths: str | os.PathLike[str]) -> None:
        """Keep these from all runs that are planned from now on."""
        with self._one_at_a_time:
            self._paths |= dict.fromkeys(os.path.abspath(path) for path in paths)

    def paths(self) -> tuple[str, ...]:
        """All of them, with the places that this and other supervisors have made for runs, or will make.

        Those of other users' supervisors, which no run can list, only as far as they have made them by now.
        """
        places = dict.fromkeys((tempfile.gettempdir(), *OTHERS))
        for place in places:
            # Where we can make none, no supervisor of this user can.
            with contextlib.suppress(OSError):
                keep_places(place)
        made = [str(path) for place in places for path in Path(place).glob(f"{PREFIX}*")]
        with self._one_at_a_time:
            return (*self._paths, *made)


KEPT = Kept()
"""The one of this process."""
