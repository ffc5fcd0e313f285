"""What of a policy is weaker than anybody should leave it without knowing, in plain words. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ringfence.sandbox.policy import (
    FilesystemMode,
    NetworkMode,
    OnUnavailable,
    PrivilegeMode,
    SandboxPolicy,
)

DISABLED = "Scripts run without any sandbox: the policy is disabled."


def weaknesses(policy: SandboxPolicy) -> tuple[str, ...]:
    """Each of them; a policy that is disabled has that one alone."""
    return tuple(_found(policy)) if policy.enabled else (DISABLED,)


def _found(policy: SandboxPolicy) -> Iterator[str]:
    network = policy.network
    if network.mode is NetworkMode.UNRESTRICTED:
        yield "Scripts may connect to every address: network.mode is unrestricted."
    if not network.denies_everything and not network.deny_link_local_and_metadata:
        yield "Metadata services are not blocked: network.denyLinkLocalAndMetadata is off."
    if policy.filesystem.mode is FilesystemMode.OFF:
        yield "Scripts read and write the files of the machine: filesystem.mode is off."
    if policy.privilege.mode is PrivilegeMode.INHERIT:
        yield "Scripts keep the rights of the service that runs them: privilege.mode is inherit."
    if policy.on_unavailable is OnUnavailable.DEGRADE:
        yield "Scripts also run where a machine cannot enforce the policy: onUnavailable is degrade."
