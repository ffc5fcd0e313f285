"""Letting go of what holds runs' mounts, each by a descriptor.

A script decides how long the kernel takes to undo them, and nobody waits for that.
"""

from __future__ import annotations

import os

from ringfence.sandbox.afterwards import Afterwards
from ringfence.sandbox.workers import LETTING_GO

PAUSE_S = 0.05
"""So long the files of an ended run are kept at most, unless the kernel has much to undo."""


def _let_go(descriptor: int) -> bool:
    os.close(descriptor)
    return True


UNMOUNTS = Afterwards(LETTING_GO, PAUSE_S, _let_go)
"""Those of this process."""


def _forget() -> None:
    """In a forked child: they are the parent's."""
    for descriptor in UNMOUNTS.forget():
        os.close(descriptor)


os.register_at_fork(after_in_child=_forget)
