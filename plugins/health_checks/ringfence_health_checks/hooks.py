"""The hook that health-checks emits."""

from __future__ import annotations

import enum
from typing import Any
from uuid import UUID

from ringfence import Hook, WireModel


class CheckChange(enum.StrEnum):
    """What became of a check."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


class HealthCheckChanged(WireModel):
    """A check, and with it what satellites and the core are to do, has changed.

    `definition` is how it is now (or was last), with the script's digest in place of the script.
    """

    check_id: UUID
    change: CheckChange
    definition: dict[str, Any]


health_check_changed = Hook("health-check-changed", HealthCheckChanged)


def stream_of(check: UUID) -> str:
    """The event stream that tells the life of one check."""
    return f"health-check.{check}"
