"""Whether a wrapper can make a room here, found out by making a small one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from ringfence.sandbox.faults import Unavailable
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.processes.attempts import attempt
from ringfence.sandbox.wrappers.opened import Opened
from ringfence.sandbox.wrappers.room import ClosedRoot, Proc, Room, Step, Wrapper

COMMAND = ("/bin/sh", "-c", ":")


def try_room(
    wrapper: Wrapper,
    base: Sequence[Step],
    target: Identity | None,
    *,
    network: bool,
    proc: bool,
) -> None:
    """Make a room as `target` and run a program in it.

    The wrapper and its libraries come by open descriptors, as for real runs: `target` may not be able to reach their
    paths.

    Raises:
        OSError, Unavailable: if that does not work.
    """
    uid, gid = target or (os.geteuid(), os.getegid())
    steps = (*base, *([Proc()] if proc else []), ClosedRoot())
    room = Room(steps, uid, gid, network=network, hostname="sandbox", directory="/")
    with contextlib.ExitStack() as held:
        try:
            opened = Opened(held, wrapper)
            attempt(opened.started(room, COMMAND), target, opened.numbers, opened.environment)
        except Unavailable as unavailable:
            reason = f"{wrapper.explained(str(unavailable))}{_explanation()}"
            raise Unavailable(reason, passing=unavailable.passing) from unavailable


def _explanation() -> str:
    """What the system's toggles say about a namespace that could not be made.

    It is an explanation, and never evidence.
    """
    for toggle, bad, meaning in (
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "AppArmor restricts unprivileged user namespaces",
        ),
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone is 0"),
        ("user/max_user_namespaces", "0", "user.max_user_namespaces is 0"),
    ):
        with contextlib.suppress(OSError):
            if Path("/proc/sys", toggle).read_text().strip() == bad:
                return f" ({meaning})"
    return ""
