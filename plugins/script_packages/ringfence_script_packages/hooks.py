"""The hooks that script-packages emits."""

from __future__ import annotations

import datetime as dt
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt
from ringfence import Hook

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
