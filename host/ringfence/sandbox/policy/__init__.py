"""What a script may do: the policy, what its addresses mean, and who answers which one holds."""

from ringfence.sandbox.policy.changing import PolicyChange, changes, overlay
from ringfence.sandbox.policy.loosening import loosened
from ringfence.sandbox.policy.model import (
    DEFAULT_POLICY,
    FAIL_CLOSED_POLICY,
    LARGEST_ID,
    LARGEST_LIMIT,
    MOST_ENTRIES,
    Filesystem,
    FilesystemMode,
    HostView,
    Network,
    NetworkMode,
    OnUnavailable,
    PolicyError,
    Privilege,
    PrivilegeMode,
    Resources,
    SandboxPolicy,
)
from ringfence.sandbox.policy.needs import (
    Missing,
    Needs,
    NeedsError,
    beyond,
    governing,
    narrow,
    without_needs,
)
from ringfence.sandbox.policy.receiving import ReceivedPolicy, receive

__all__ = [
    "DEFAULT_POLICY",
    "FAIL_CLOSED_POLICY",
    "LARGEST_ID",
    "LARGEST_LIMIT",
    "MOST_ENTRIES",
    "Filesystem",
    "FilesystemMode",
    "HostView",
    "Missing",
    "Needs",
    "NeedsError",
    "Network",
    "NetworkMode",
    "OnUnavailable",
    "PolicyChange",
    "PolicyError",
    "Privilege",
    "PrivilegeMode",
    "ReceivedPolicy",
    "Resources",
    "SandboxPolicy",
    "beyond",
    "changes",
    "governing",
    "loosened",
    "narrow",
    "overlay",
    "receive",
    "without_needs",
]
