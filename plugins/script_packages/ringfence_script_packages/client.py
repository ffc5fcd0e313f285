"""The policy as commands read it from a host; the commands of other plugins may, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ringfence.cli import HostClient
    from ringfence.sandbox import PolicySnapshot

POLICY = "/api/script-packages/sandbox-policy"
_SECONDS = 5.0


def policy_of(host: HostClient) -> PolicySnapshot:
    """The policy for a run on this machine; the fail-closed profile if the answer holds none. Raises `CliError`."""
    from ringfence.sandbox import PolicySnapshot, PolicySource, receive

    state = host.request("GET", POLICY, timeout=_SECONDS)
    try:
        received, revision = receive(state["policy"]), int(state["revision"])
    except (KeyError, TypeError, ValueError) as error:
        return PolicySnapshot.fail_closed(f"the host's answer holds no policy: {error!r}")
    return PolicySnapshot(
        received.policy,
        revision=revision,
        source=PolicySource.STORED if revision else PolicySource.DEFAULT,
        not_understood=received.not_understood,
    )
