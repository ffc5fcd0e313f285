"""What becomes looser from one policy to another, in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ringfence.sandbox.policy.coverage import Reached, shows
from ringfence.sandbox.policy.model import (
    Filesystem,
    FilesystemMode,
    HostView,
    Network,
    NetworkMode,
    OnUnavailable,
    Privilege,
    PrivilegeMode,
    Resources,
    SandboxPolicy,
)

_MORE_FILES = (FilesystemMode.SCRATCH_ONLY, FilesystemMode.SCRATCH_PLUS_RO, FilesystemMode.OFF)


def loosened(old: SandboxPolicy, new: SandboxPolicy) -> tuple[str, ...]:
    """What `new` lets scripts do that `old` does not, each with its path; nothing is looser than no sandbox.

    It errs on the safe side: what cannot be seen to be within the old policy is told as looser.
    """
    return tuple(_loosened(old, new)) if old.enabled else ()


def _loosened(old: SandboxPolicy, new: SandboxPolicy) -> Iterator[str]:
    if not new.enabled:
        yield "enabled: scripts run without any sandbox"
        return
    if old.on_unavailable is OnUnavailable.FAIL and new.on_unavailable is OnUnavailable.DEGRADE:
        yield "onUnavailable: a run goes on where a machine cannot enforce all of the policy"
    for name, field in Resources.model_fields.items():
        before, after = getattr(old.resources, name), getattr(new.resources, name)
        if after > before:
            yield f"resources.{field.alias}: {after:,} (was {before:,})"
    yield from _filesystem(old.filesystem, new.filesystem)
    yield from _network(old.network, new.network)
    yield from _privilege(old.privilege, new.privilege)
    if old.needs_required and not new.needs_required:
        yield "needsRequired: what does not say what it needs gets all that the policy allows"


def _filesystem(old: Filesystem, new: Filesystem) -> Iterator[str]:
    if _MORE_FILES.index(new.mode) > _MORE_FILES.index(old.mode):
        yield f"filesystem.mode: {new.mode} (was {old.mode})"
    # Where the host's files are kept, naming some shows no more.
    for path in () if new.mode is FilesystemMode.OFF else new.host_paths:
        if not shows(old, path):
            yield f"filesystem.hostPaths: scripts may read {path}"
    for view in HostView:
        if view in new.host_view and view not in old.host_view:
            yield f"filesystem.hostView: scripts see the host's {view}"


def _network(old: Network, new: Network) -> Iterator[str]:
    if new.mode is NetworkMode.UNRESTRICTED and old.mode is not NetworkMode.UNRESTRICTED:
        yield f"network.mode: unrestricted (was {old.mode})"
    reached = Reached(old)
    listed: Iterable[str] = new.allow
    if new.mode is NetworkMode.DENY:
        listed = ()
    elif new.mode is NetworkMode.UNRESTRICTED:
        # What is not reached without being listed: sockets, and the machine's own loopback.
        listed = map(str, (*new.sockets, *new.local))
    for text in listed:
        if not reached.covers(text):
            yield f"network.allow: scripts may connect to {text}"
    if new.denies_everything:
        return
    if old.deny_link_local_and_metadata and not new.deny_link_local_and_metadata:
        yield "network.denyLinkLocalAndMetadata: metadata services and link-local addresses are not blocked"
    if old.check_server_name and not new.check_server_name:
        yield "network.checkServerName: a TLS client may ask for any server name at an address that a name opened"


def _privilege(old: Privilege, new: Privilege) -> Iterator[str]:
    if old.mode is PrivilegeMode.INHERIT:
        return
    if new.mode is PrivilegeMode.INHERIT:
        yield "privilege.mode: scripts keep the rights of the supervisor"
        return
    for name in ("uid", "gid"):
        before, after = getattr(old, name), getattr(new, name)
        if after is not None and after != before:
            was = "one of each run's own" if before is None else before
            yield f"privilege.{name}: {after} (was {was})"
