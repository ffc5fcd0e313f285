"""A cgroup v2 of its own for a run, where a subtree is delegated to us: limits that the kernel keeps."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")

NEEDED = frozenset({"memory", "pids"})


class NotDelegated(Exception):
    """No cgroup v2 subtree with the needed controllers is ours to use; the message says what is lacking."""


def find_delegated() -> Path:
    """The directory under which this process may make cgroups with memory and process limits.

    Raises:
        NotDelegated: if there is none.
    """
    raise NotDelegated("cgroup v2 is not used yet")
