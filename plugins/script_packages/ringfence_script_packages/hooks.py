"""The hooks that script-packages emits."""

from __future__ import annotations

import datetime as dt
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt
from ringfence import Hook, WireModel

POLICY_STREAM = "sandbox-policy"


class PolicyChange(BaseModel):
    """One setting that a revision changed: its dotted path, and what it was before and after."""

    model_config = ConfigDict(frozen=True)

    path: str
    before: Any
    after: Any


class SandboxPolicyChanged(BaseModel):
    """The global sandbox policy has a new revision.

    `policy` is the whole policy in its wire form, just as it was written: an instance of an older release passes on
    what it does not understand itself, and each satellite judges for itself.
    """

    model_config = ConfigDict(frozen=True)

    revision: StrictInt = Field(ge=1)
    previous_revision: StrictInt = Field(ge=0)
    policy: dict[str, Any]
    changes: tuple[PolicyChange, ...]
    actor: str
    reason: str | None
    changed_at: dt.datetime


sandbox_policy_changed = Hook(
    "sandbox-policy-changed",
    SandboxPolicyChanged,
    stream=POLICY_STREAM,
    keep_forever=True,
    # No other rule implies this one, not even the right to look at the event log.
    payload_rule="script-packages.script-sandbox.manage",
)

PACKAGES_RULE = "script-packages.package.read"


class ScriptPackagesAllowed(WireModel):
    """What a set may have was changed. `specifier` is None if the package was removed from the set's list."""

    set: str
    ecosystem: str
    name: str
    extras: tuple[str, ...] = ()
    specifier: str | None


class ScriptPackagesRequested(WireModel):
    """Somebody wants a set to be installed, with newer versions too if it is an `upgrade`."""

    set: str
    upgrade: StrictBool


class ScriptPackagesChanged(WireModel):
    """A set has another lock, or more of its files are stored. `lock_hash` is None if there is no such set any more."""

    set: str
    lock_hash: str | None


class ScriptPackagesFailed(WireModel):
    """A set could not be installed: for which package, why, and what to do. What it had before, it still has."""

    set: str
    package: str | None
    why: str
    message: str
    hint: str | None


class Vulnerability(WireModel):
    """A known vulnerability of a locked version."""

    ecosystem: str
    package: str
    version: str
    advisory: str
    summary: str
    url: str | None
    severity: str | None
    fixed_in: tuple[str, ...]


class ScriptPackagesVulnerable(WireModel):
    """An audit has found vulnerabilities of a set's lock that the one before had not found."""

    set: str
    lock_hash: str
    found: tuple[Vulnerability, ...]


script_packages_allowed = Hook("script-packages-allowed", ScriptPackagesAllowed, payload_rule=PACKAGES_RULE)
script_packages_requested = Hook(
    "script-packages-requested", ScriptPackagesRequested, payload_rule=PACKAGES_RULE
)
script_packages_changed = Hook("script-packages-changed", ScriptPackagesChanged, payload_rule=PACKAGES_RULE)
script_packages_failed = Hook("script-packages-failed", ScriptPackagesFailed, payload_rule=PACKAGES_RULE)
script_packages_vulnerable = Hook(
    "script-packages-vulnerable", ScriptPackagesVulnerable, payload_rule=PACKAGES_RULE
)
