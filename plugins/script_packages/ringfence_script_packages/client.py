"""The policy and the packages as commands read and change them on a host; those of other plugins may, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ringfence_script_packages.addresses import POLICY

if TYPE_CHECKING:
    from ringfence.cli import HostClient
    from ringfence.sandbox import PolicySnapshot

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


def change_policy(
    host: HostClient,
    partial: Mapping[str, Any],
    *,
    reason: str | None,
    expect: int,
    yes: bool,
    as_json: bool,
) -> None:
    """Put `partial` over the policy at that revision, as `ringfence policy patch` does: it is foreseen, and asked for.

    Raises `CliError`.
    """
    from ringfence_script_packages.commands.making import Change, How, make

    make(host, Change.over(partial), How(reason, expect, yes=yes, as_json=as_json))
