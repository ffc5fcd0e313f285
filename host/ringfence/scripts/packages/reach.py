"""Whether the users that scripts run as can reach a directory of trees."""

from __future__ import annotations

import stat
from pathlib import Path

from ringfence.sandbox.capabilities.found import IdentityDrop
from ringfence.sandbox.capabilities.model import Capabilities


def runs_as_another_user(capabilities: Capabilities) -> bool:
    """Whether scripts run as somebody else than this process."""
    drop = capabilities.identity_drop
    return isinstance(drop, IdentityDrop) and drop.given is not None


def barred(directory: Path, *, otherwise: str) -> str | None:
    """Why another user cannot reach a directory, and what to do, or else `otherwise`; None if they can."""
    for parent in (directory, *directory.parents):
        if not parent.stat().st_mode & stat.S_IXOTH:
            return f"scripts run as another user here, which cannot pass {parent}: chmod o+x {parent}, or {otherwise}"
    return None
