"""Dying, or telling, at a chosen point of what a process does for packages: `Doom` watches the points."""

from __future__ import annotations

import functools
import json
import os
import signal
import threading
from collections.abc import Mapping
from typing import Any

from ringfence.scripts.packages import keeping
from ringfence.scripts.packages.keeping import KeptTrees
from ringfence.scripts.packages.trees import Trees

_one_at_a_time = threading.Lock()


def say(told: Mapping[str, Any]) -> None:
    """Tell the test something, in one line."""
    line = json.dumps(told).encode() + b"\n"
    with _one_at_a_time:
        while line:
            line = line[os.write(1, line) :]


class Doom:
    """Ends this process soon after it has come to a point, or says that it has."""

    def __init__(self) -> None:
        self._armed: tuple[str, float, bool] | None = None

    def arm(self, point: str, after: float, *, dies: bool) -> None:
        """From now on the next arrival at `point` counts, once."""
        self._armed = (point, after, dies)

    def watch(self, owner: Any, name: str, point: str) -> None:
        """Have the beginning of this function be the point."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def watched(*arguments: Any, **options: Any) -> Any:
            self._reached(point)
            return original(*arguments, **options)

        setattr(owner, name, watched)

    def watch_trees(self) -> None:
        """The points that instances and satellites have in common."""
        self.watch(KeptTrees, "want", "told")
        self.watch(KeptTrees, "_make", "fetch")
        self.watch(Trees, "_unpack", "unpack")
        # It is the last thing before the tree gets its name.
        self.watch(Trees, "_used", "name")
        self.watch(keeping, "_write", "swap")
        self.watch(Trees, "_collected", "clear")

    def _reached(self, point: str) -> None:
        if self._armed is None or self._armed[0] != point:
            return
        _, after, dies = self._armed
        self._armed = None
        if dies:
            threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()
        else:
            say({"reached": point})


DOOM = Doom()
