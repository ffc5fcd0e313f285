"""The `/proc` of a run that is shown the host: a directory of its own, made with its sandbox, filled at its start.

In it are the run's own `/proc`, as `own`; the host's, as `host`, if it sees the host's processes; and links into these
under the names that programs look for. `self` always leads to the run's own.
"""

from __future__ import annotations

import contextlib
import os

from ringfence.sandbox.launch.making.folders import Folder
from ringfence.sandbox.plan.furnish import HOSTS_PROC, OWN_PROC, PROC
from ringfence.sandbox.plan.model import Plan
from ringfence.sandbox.policy import HostView

MOST_PROCESSES = 50_000
"""So many processes of the host are shown at most."""

FIRST_PIDS = 32
"""`ps` looks for itself by the pid that it has inside. Below this, a pid that no process of the host has leads to the
run's own, as in containers; on a machine, threads of the kernel have these."""


def make(folder: Folder, plan: Plan) -> None:
    """Put in what is the same from the start of a run to its end. Raises OSError."""
    assert plan.host is not None
    own, host = OWN_PROC.removeprefix(f"{PROC}/"), HOSTS_PROC.removeprefix(f"{PROC}/")
    folder.directory(own)
    taken = {own, host}
    if HostView.PROCESSES in plan.host_view:
        folder.directory(host)
    if HostView.NETWORK in plan.host_view:
        folder.directory("net")
        taken.add("net")
    if HostView.DISKS in plan.host_view:
        folder.put("mounts", plan.host.mounts)
        taken.add("mounts")
    for name in (*plan.host.entries, "self", "thread-self"):
        if name not in taken:
            taken.add(name)
            folder.link(name, f"{own}/{name}")


def fill(folder: Folder, plan: Plan) -> None:
    """Put in the processes that the host has now."""
    if HostView.PROCESSES not in plan.host_view:
        return
    own, host = OWN_PROC.removeprefix(f"{PROC}/"), HOSTS_PROC.removeprefix(f"{PROC}/")
    pids = [name for name in os.listdir("/proc") if name.isdigit()][:MOST_PROCESSES]
    places = {str(pid): own for pid in range(2, FIRST_PIDS)} | dict.fromkeys(pids, host)
    for pid, place in places.items():
        with contextlib.suppress(FileExistsError):
            folder.link(pid, f"{place}/{pid}")
