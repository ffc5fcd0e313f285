"""The hooks that automations emit."""

from __future__ import annotations

import enum
from typing import Any
from uuid import UUID

from pydantic import StrictInt
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
    revision: StrictInt
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


class AutomationRunStarted(WireModel):
    """A run of an automation has begun. `depth`: how many automations had started each other before it."""

    run_id: UUID
    automation: str
    revision: StrictInt
    trigger: str
    depth: StrictInt = 0


class AutomationRunFinished(WireModel):
    """A run of an automation has ended: `status` is succeeded, failed or cancelled, and `message` says why."""

    run_id: UUID
    automation: str
    revision: StrictInt
    trigger: str
    depth: StrictInt = 0
    status: str
    message: str | None = None


automation_run_started = Hook("automation-run-started", AutomationRunStarted, payload_rule=READ)
automation_run_finished = Hook("automation-run-finished", AutomationRunFinished, payload_rule=READ)


def stream_of_run(run: UUID) -> str:
    """The event stream that tells of one run."""
    return f"automation-run.{run}"
