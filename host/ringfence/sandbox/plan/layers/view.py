"""What of the host a run is shown beyond programs, by its policy's `hostPaths` and `hostView`, and why it is not.

Threat: with the host's `/proc`, a run gets at other processes: at their environment, memory, files and roots.
Mechanism: the kernel shows these only to a process of the same user whose user namespace is the same (ptrace(2), access
mode checking), and no other process is in the run's own but the run's. Its namespace's init is, and by the host's
`/proc` it has a name that cannot be covered in advance; so a run sees the host's processes only with a uid of its own,
to which nothing that init has open belongs. Nothing of `/proc` and `/sys` can be opened for writing, since they are
mounted read-only. A signal needs a name in the run's own PID namespace. Not covered: what the kernel shows everybody of
each process, such as its command line, its limits, its mounts and its network's tables.
"""

from __future__ import annotations

from ringfence.sandbox.capabilities.host_view import HostFound
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.identities.uids import UidRange
from ringfence.sandbox.plan.findings import Findings
from ringfence.sandbox.plan.wrapping import why_not_wrapped
from ringfence.sandbox.policy import HostView, SandboxPolicy
from ringfence.sandbox.report import Layer

MOST_NAMED = 5
"""So many paths are named in a report; of more, only how many there are."""


def host_view(
    capabilities: Capabilities,
    policy: SandboxPolicy,
    found: HostFound | None,
    uids: UidRange | None,
    findings: Findings,
    *,
    wrapped: bool,
) -> tuple[HostFound | None, frozenset[HostView]]:
    """What a run is shown, and by which words of `hostView`; the rest is lacking."""
    asked = policy.filesystem
    if not policy.enabled or not asked.shows_host:
        return None, frozenset()
    if not wrapped:
        findings.lacks(
            Layer.FILESYSTEM,
            "filesystem.hostPaths and filesystem.hostView need namespaces, so that the host is shown without its "
            f"secrets ({why_not_wrapped(capabilities)})",
        )
        return None, frozenset()
    found = found or HostFound()
    for reason in found.lacking:
        findings.lacks(Layer.FILESYSTEM, f"filesystem.hostPaths: {reason}")
    granted = set(asked.host_view)
    for view in asked.host_view:
        if (why := _why_not(view, found, uids)) is not None:
            findings.lacks(Layer.FILESYSTEM, f"filesystem.hostView: {view} cannot be shown: {why}")
            granted.discard(view)
    _tell(found, granted, uids, findings, has_sockets=bool(policy.network.sockets))
    return found, frozenset(granted)


def _why_not(view: HostView, found: HostFound, uids: UidRange | None) -> str | None:
    if view is HostView.PROCESSES and uids is None:
        return (
            "runs have no uid of their own here (the notes say why), and then a script could reach the init of its "
            "own namespace by the host's /proc"
        )
    if view is HostView.PROCESSES and found.hides_processes:
        return "this host hides processes from other users (hidepid, on /proc)"
    if view is HostView.DISKS and found.place is None and found.entries:
        return (
            "no directory on the file system of / can be written to by the supervisor and reached by every user, and "
            "the root of a sandbox has to be there to have its numbers"
        )
    return None


def _tell(
    found: HostFound, granted: set[HostView], uids: UidRange | None, findings: Findings, *, has_sockets: bool
) -> None:
    if found.paths:
        paths = [place.at for place in found.paths]
        named = ", ".join(paths[:MOST_NAMED]) + (
            f" and {len(paths) - MOST_NAMED} more" if paths[MOST_NAMED:] else ""
        )
        findings.mechanisms["hostPaths"] = f"mounted read-only, without devices and set-user-id: {named}"
        findings.note(
            Layer.FILESYSTEM,
            "the host's files are shown as hostPaths says: whole files cannot be locked (flock)"
            + ("" if has_sockets else ", and Unix sockets are refused but for pairs"),
        )
        if uids is None:
            findings.note(
                Layer.FILESYSTEM,
                "in hostPaths, the script can read what the uid that runs share can read on the host",
            )
    if granted:
        views = ", ".join(view for view in HostView if view in granted)
        findings.mechanisms["hostView"] = f"the host's own /proc and /sys, read-only: {views}"
        findings.note(Layer.FILESYSTEM, f"the host is shown to the script: {views}")
    if HostView.DISKS in granted and found.unseen:
        findings.note(
            Layer.FILESYSTEM,
            f"the numbers of these file systems cannot be shown: {', '.join(found.unseen[:MOST_NAMED])}"
            + (f" and {len(found.unseen) - MOST_NAMED} more" if found.unseen[MOST_NAMED:] else ""),
        )
    if (found.paths or granted) and "filesystem" in findings.mechanisms:
        findings.mechanisms["filesystem"] = findings.mechanisms["filesystem"].replace(
            "nothing else", "and of the host what hostPaths and hostView say"
        )
