"""What a script that has root's uid on the host can do all the same: pure decisions, for the plan and its report.

Many parts of the kernel ask who somebody is, and not which capabilities they have. To the files of procfs and sysfs, to
devices and to every other file of root's, uid 0 is their owner. And the kernel does not count root's processes.
"""

from __future__ import annotations

from ringfence.sandbox.policy import FilesystemMode


def at_large(uid: int, mode: FilesystemMode, *, wrapped: bool) -> str | None:
    """Why nothing holds against a script of this uid, for the note that says so; None if it is confined."""
    if uid != 0 or (wrapped and mode is not FilesystemMode.OFF):
        return None
    if wrapped:
        return (
            "the script is root (uid 0) and sees the host's files: it can write to all of root's, devices and the "
            "kernel's settings under /sys among them, and so take over the host; nothing is claimed to be enforced"
        )
    return (
        "the script is root (uid 0) without a user namespace: it has root's capabilities, and can change whatever no "
        "filter or Landlock rule names, such as the mode and owner of every file and the host's network; nothing is "
        "claimed to be enforced"
    )


NOT_COUNTED = (
    "the script is root (uid 0): the kernel does not limit how many processes root has, so that maxProcesses does not "
    "hold without a cgroup; and what it counts for each user, the script shares with root's own processes"
)
"""Why the limits of a run as a whole do not hold without a cgroup, for the note that says so."""
