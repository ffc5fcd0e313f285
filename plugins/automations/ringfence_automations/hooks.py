"""The hooks that automations emit."""

from __future__ import annotations

import enum
from typing import Any

from ringfence import Hook, WireModel


class AutomationChange(enum.StrEnum):
    """What became of an automation."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


class AutomationChanged(WireModel):
    """An automation has a new revision.

    `definition` is all of it, as it is now or was last. `acts_for` is the name of the token whose rules its runs have,
    and `token` that token's id. `revision` counts on also when an automation is deleted and made again.
    """

    name: str
    revision: int
    change: AutomationChange
    definition: dict[str, Any]
    acts_for: str
    token: str


READ = "automations.automation.read"
"""The access rule that whoever sees automations and their runs holds."""
automation_changed = Hook("automation-changed", AutomationChanged, keep_forever=True, payload_rule=READ)


def stream_of(name: str) -> str:
    """The event stream that tells the life of one automation: each version of it is a revision."""
    return f"automation.{name}"
