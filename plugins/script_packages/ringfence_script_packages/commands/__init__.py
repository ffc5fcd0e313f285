"""What script-packages brings to the command line: `policy`, `packages`, and the policy that `ringfence run` uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ringfence import hookimpl

if TYPE_CHECKING:
    from ringfence.cli import HostClient, PackagesToRun
    from ringfence.sandbox import PolicySnapshot
    from ringfence.scripts import ScriptRequest


@hookimpl
def commands() -> Mapping[str, str]:
    """The commands of the policy and of the packages."""
    return {
        "policy": "ringfence_script_packages.commands.policy:app",
        "packages": "ringfence_script_packages.commands.packages:app",
    }


@hookimpl
def policy_for_run(host: HostClient) -> PolicySnapshot:
    """The policy that the host has now."""
    from ringfence_script_packages.client import policy_of

    return policy_of(host)


@hookimpl
def packages_for_run(host: HostClient, request: ScriptRequest) -> PackagesToRun | None:
    """The set that a script asks for, in a tree on this machine."""
    from ringfence_script_packages.commands.tree_here import packages_to_run

    return packages_to_run(host, request)
