"""The layer of files: what a run sees of the host's, and what it shares with others there."""

from __future__ import annotations

from ringfence.sandbox.capabilities.found import Missing
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.filters import landlock
from ringfence.sandbox.filters.landlock import Confinement
from ringfence.sandbox.plan.findings import Findings
from ringfence.sandbox.plan.model import Inputs
from ringfence.sandbox.plan.wrapping import why_not_wrapped
from ringfence.sandbox.policy import (
    FilesystemMode,
    SandboxPolicy,
)
from ringfence.sandbox.report import Layer


def filesystem(
    capabilities: Capabilities,
    policy: SandboxPolicy,
    wrapped: bool,
    confinement: Confinement | None,
    inputs: Inputs,
    findings: Findings,
) -> None:
    mode = policy.filesystem.mode
    if not policy.enabled:
        return
    if mode is FilesystemMode.OFF:
        findings.note(
            Layer.FILESYSTEM,
            "the policy keeps the host's files: a lock that the script takes on one also blocks the host",
        )
        return
    if confinement is not None:
        findings.note(Layer.FILESYSTEM, landlock.FILES_NOT_COVERED)
        if (exposed := landlock.processes_not_kept(confinement.abi)) is not None:
            findings.note(Layer.PRIVILEGE, exposed)
        if landlock.covers_files(confinement.abi):
            findings.holds(Layer.FILESYSTEM, filesystem=landlock.FILES_BY_LANDLOCK)
        else:
            findings.lacks(Layer.FILESYSTEM, landlock.files_not_kept(confinement.abi))
        return
    if not wrapped:
        findings.lacks(
            Layer.FILESYSTEM,
            "the host's files are as readable and writable as for any process "
            f"({why_not_wrapped(capabilities)})",
        )
        return
    findings.holds(
        Layer.FILESYSTEM,
        filesystem="a mount namespace of its own: system programs read-only, one private tmpfs, nothing else",
    )
    if (shared := _shared(capabilities, mode, inputs)) is not None:
        what, why = shared
        findings.note(
            Layer.FILESYSTEM,
            f"{what} shared with the host: whole files cannot be locked (flock), but ranges of a file can, for reading "
            f"({why})",
        )
    if mode is FilesystemMode.SCRATCH_PLUS_RO and inputs.packages is None:
        findings.note(
            Layer.FILESYSTEM, "there is no managed package tree to add; the standard library is there"
        )


def _shared(capabilities: Capabilities, mode: FilesystemMode, inputs: Inputs) -> tuple[str, str] | None:
    """Which files of the host a run has that are not layered, and why; None if it has none."""
    if isinstance(capabilities.overlay, Missing):
        return "the system's files are", capabilities.overlay.reason
    if mode is FilesystemMode.SCRATCH_PLUS_RO and inputs.packages_mount is not None:
        return (
            "the package tree is",
            f"{inputs.packages_mount} is mounted in it, and an overlay would not include that",
        )
    return None
