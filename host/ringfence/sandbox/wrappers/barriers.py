"""Which directory on the way to a path a uid may not pass: for refusals that else only say "permission denied".

By owner and mode alone (path_resolution(7)). An access list or a security module may refuse too, and is not seen here.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def barrier(path: str, uid: int, gid: int) -> Path | None:
    """The first directory above `path` that this identity may not pass, links followed; None if none is found.

    Its groups are those that a run has: none but `gid`, and the supervisor's if it shares the supervisor's own uid.
    """
    if uid == 0:
        return None
    groups = {gid, *(os.getgroups() if uid == os.geteuid() else ())}
    for place in dict.fromkeys((Path(path), Path(os.path.realpath(path)))):
        for directory in reversed(place.parents):
            try:
                passes = grants(directory.stat(), uid, groups) & stat.S_IXOTH
            except OSError:
                return None  # What is not there, or not for us to see, is another matter.
            if not passes:
                return directory
    return None


def grants(found: os.stat_result, uid: int, groups: set[int]) -> int:
    """What the mode of a file grants to this uid, as the bits for others."""
    if found.st_uid == uid:
        return found.st_mode >> 6
    return found.st_mode >> 3 if found.st_gid in groups else found.st_mode


def unreachable(path: str, uid: int, gid: int) -> str | None:
    """That this identity cannot reach `path`, what is in the way, and what to do; None if nothing is found there."""
    directory = barrier(path, uid, gid)
    if directory is None:
        return None
    found = directory.stat()
    return (
        f"uid {uid}, which scripts have, cannot reach {path}: it may not pass {directory} (mode "
        f"{stat.S_IMODE(found.st_mode):04o}, owner {found.st_uid}:{found.st_gid}); put it where every user may pass, "
        f"or let them through: chmod o+x {directory}"
    )
