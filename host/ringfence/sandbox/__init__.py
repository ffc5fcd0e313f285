"""The sandbox: policy, capabilities, plan, launch, report.

It imports only the standard library and pydantic, so that a satellite can carry it without the rest of the
host.
"""

from ringfence.sandbox.policy import (
    DEFAULT_POLICY,
    FAIL_CLOSED_POLICY,
    Filesystem,
    FilesystemMode,
    Network,
    NetworkMode,
    OnUnavailable,
    PolicyChange,
    PolicyError,
    Privilege,
    PrivilegeMode,
    ReceivedPolicy,
    Resources,
    SandboxPolicy,
    changes,
    overlay,
    receive,
)
from ringfence.sandbox.policy.provider import (
    PolicyProvider,
    PolicySnapshot,
    PolicySource,
    ProviderAlreadySet,
    clear_policy_provider,
    current_policy,
    set_policy_provider,
)
from ringfence.sandbox.report import Downgrade, Enforced, Layer, Note, PolicyOrigin, SandboxReport

__all__ = [
    "DEFAULT_POLICY",
    "FAIL_CLOSED_POLICY",
    "Downgrade",
    "Enforced",
    "Filesystem",
    "FilesystemMode",
    "Layer",
    "Network",
    "NetworkMode",
    "Note",
    "OnUnavailable",
    "PolicyChange",
    "PolicyError",
    "PolicyOrigin",
    "PolicyProvider",
    "PolicySnapshot",
    "PolicySource",
    "Privilege",
    "PrivilegeMode",
    "ProviderAlreadySet",
    "ReceivedPolicy",
    "Resources",
    "SandboxPolicy",
    "SandboxReport",
    "changes",
    "clear_policy_provider",
    "current_policy",
    "overlay",
    "receive",
    "set_policy_provider",
]
