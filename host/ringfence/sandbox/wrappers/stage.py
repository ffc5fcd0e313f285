"""The stage: namespaces around a wrapper, and what is done in them before the wrapper is reached.

What is made here is run as the sandbox's uid. `unshare` makes a user namespace, in which that uid is root, and the
other namespaces in it; the shell does what is to be done and *becomes* the wrapper. Whoever sees the wrapper run knows
that all of it was done. The wrapper's own user namespace is nested in this one, so that nothing in the room has a
capability over what is made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preparation:
    """Shell text that must succeed, and whether it needs a network namespace or a mount namespace of its own."""

    text: str
    network: bool = False
    mounts: bool = False


def stage(preparations: Sequence[Preparation], program: int, arguments: Sequence[str]) -> list[str]:
    """The arguments for `unshare` (util-linux) with which a wrapper starts when all is prepared.

    `program` is the number of the wrapper's program, opened.
    """
    script = " && ".join([*(each.text for each in preparations), f'exec /proc/self/fd/{program} "$@"'])
    return [
        "unshare",
        "--user",
        "--map-root-user",
        *(["--net"] if any(each.network for each in preparations) else []),
        *(["--mount"] if any(each.mounts for each in preparations) else []),
        "--",
        "/bin/sh",
        "-c",
        script,
        "ringfence-stage",
        *arguments,
    ]
