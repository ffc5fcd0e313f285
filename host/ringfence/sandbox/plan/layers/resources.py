"""The layer of resources: what holds each limit."""

from __future__ import annotations

from ringfence.sandbox.capabilities.found import Cgroup, Missing
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.uids import UidRange
from ringfence.sandbox.plan.findings import Findings
from ringfence.sandbox.plan.layers import uidzero
from ringfence.sandbox.plan.wrapping import why_not_wrapped
from ringfence.sandbox.policy import (
    FilesystemMode,
    SandboxPolicy,
)
from ringfence.sandbox.report import Layer


def resources(
    capabilities: Capabilities,
    policy: SandboxPolicy,
    wrapped: bool,
    identity: Identity,
    uids: UidRange | None,
    findings: Findings,
) -> None:
    if not policy.enabled:
        return
    if isinstance(capabilities.rlimits, Missing):
        findings.lacks(Layer.RESOURCES, f"resource limits cannot be set: {capabilities.rlimits.reason}")
        return
    findings.mechanisms |= {
        "cpuSeconds": "RLIMIT_CPU, per process",
        "maxOpenFiles": "RLIMIT_NOFILE, per process",
        "maxFileSizeBytes": "RLIMIT_FSIZE, per file",
        "maxOutputBytes": "counted by the supervisor, stdout and stderr together",
    }
    if not wrapped:
        findings.lacks(
            Layer.RESOURCES,
            "limits hold per process only: processes, memory and scratch of a run as a whole are unbounded "
            f"({why_not_wrapped(capabilities)})",
        )
        return
    findings.holds(
        Layer.RESOURCES,
        memoryBytes=f"{_memory(capabilities.cgroup)}; RLIMIT_DATA per process, for what it reserves",
        maxProcesses="RLIMIT_NPROC in the run's own user namespace, threads counted"
        + ("; pids.max of its own cgroup" if capabilities.cgroup.available else ""),
        maxScratchBytes=(
            "the size of the tmpfs on /tmp; its files are counted by the supervisor"
            if policy.filesystem.mode is FilesystemMode.OFF
            else "the size of the one tmpfs that is writable; its files are counted by the supervisor"
        ),
    )
    if identity.uid == 0 and not capabilities.cgroup.available:
        del findings.enforced[Layer.RESOURCES.value], findings.mechanisms["maxProcesses"]
        findings.note(Layer.RESOURCES, uidzero.NOT_COUNTED)
    if policy.filesystem.mode is FilesystemMode.OFF:
        findings.note(
            Layer.RESOURCES,
            "the policy keeps the host's files: what the script writes outside of /tmp, where its uid may "
            f"(/var/tmp, /dev/shm), is not bounded and {'stays' if uids is None else 'stays until the run has ended'}",
        )


def _memory(cgroup: Cgroup | Missing) -> str:
    """By what the memory of a run as a whole is held."""
    if isinstance(cgroup, Missing):
        return (
            "best effort: what the run's processes use (mapped memory, page tables, swap, pipes and sockets) is summed "
            "by the supervisor at short intervals, which kills a run over the limit; a run can exceed it in between"
        )
    if cgroup.place.is_legacy:
        return (
            "memory.limit_in_bytes of the run's own cgroup (v1), without swap where that is accounted for, scratch and "
            "the kernel's buffers counted; the kernel kills a process at the limit, the supervisor the rest"
        )
    given = " in a transient scope of systemd" if cgroup.place.is_scope else ""
    return (
        f"memory.max of the run's own cgroup{given}, without swap, scratch and the kernel's buffers counted"
    )
