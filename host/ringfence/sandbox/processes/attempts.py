"""Trying a program out, as the uid that scripts will have: what it says, or why that cannot be had."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ringfence.sandbox.faults import Unavailable, is_passing, status_is_passing
from ringfence.sandbox.identities import subordinates
from ringfence.sandbox.identities.identity import Identity

ATTEMPT_TIMEOUT_S = 10.0

SEARCH_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def _run(
    arguments: Sequence[str],
    target: Identity | None,
    pass_fds: Sequence[int],
    environment: Mapping[str, str],
) -> subprocess.CompletedProcess[str]:
    """Run a probe's program as `target`, without supplementary groups; the caller's own identity if None."""
    words, how = become(target, pass_fds)
    return subprocess.run(
        [*words, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=ATTEMPT_TIMEOUT_S,
        env={"PATH": ":".join(SEARCH_PATH), "LC_ALL": "C", **environment},
        cwd="/",
        **how,
    )


def become(target: Identity | None, pass_fds: Sequence[int] = ()) -> tuple[list[str], dict[str, Any]]:
    """What to start a program as `target` with: words before its own, and arguments for `subprocess`.

    Raises:
        NoSubordinatesError: if that takes subordinate uids, and they are not to be had.
    """
    if target is None:
        return [], {"pass_fds": pass_fds}
    if os.geteuid() == 0:
        return [], {"pass_fds": pass_fds, "user": target.uid, "group": target.gid, "extra_groups": []}
    words, namespace = subordinates.entering(*target)
    return words, {"pass_fds": (*pass_fds, namespace)}


def attempt(
    arguments: Sequence[str],
    target: Identity | None,
    pass_fds: Sequence[int] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The output of a program that must succeed.

    Raises:
        Unavailable: with what went wrong, in the program's own words.
    """
    try:
        done = _run(arguments, target, pass_fds, environment)
    except (OSError, subprocess.SubprocessError, subordinates.NoSubordinatesError) as error:
        raise Unavailable(str(error), passing=is_passing(error)) from error
    if done.returncode != 0:
        words = " ".join(done.stderr.split()) or "it said nothing"
        passing = status_is_passing(done.returncode) or is_passing(words)
        raise Unavailable(f"exit status {done.returncode}: {words}", passing=passing)
    return done.stdout
