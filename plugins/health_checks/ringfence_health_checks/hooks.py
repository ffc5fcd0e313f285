"""The hooks that health-checks emits."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Any
from uuid import UUID

from pydantic import Field, StrictBool, computed_field
from ringfence import Hook, WireModel
from ringfence.scripts import Health


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


class HealthStateChanged(WireModel):
    """A check has settled in another state in one place, or begins or ceases to flap there.

    `place` is `core` or a satellite's id, and `labels` are the satellite's. `previous` is None for the first state of
    all. `message` and `result_id` are of the result that caused it; there is none (`result_id` is None) where nothing
    has come for too long (`stale`), or the satellite is back. Nobody wants to be told of one that is `silenced`.
    `status` is the new state again, under the name by which expressions ask for it.
    """

    check_id: UUID
    check_name: str
    system: str
    place: str
    place_name: str | None
    labels: dict[str, str]
    previous: Health | None = Field(alias="from")
    state: Health = Field(alias="to")
    since: dt.datetime
    message: str
    result_id: str | None = None
    silenced: StrictBool = False
    flapping: StrictBool = False
    stale: StrictBool = False

    @computed_field  # type: ignore[prop-decorator]
    @property
    def status(self) -> Health:
        """The state that the check is in now."""
        return self.state


class Stop(enum.StrEnum):
    """What has ended a run of a check, or kept it from beginning, if it concerns whoever sees to the sandbox."""

    REFUSED = "refused"
    """The sandbox refused the run: it cannot be had on that machine as the policy wants it."""
    FORBIDDEN_CALL = "forbidden-call"
    """The run was ended for a system call of another architecture, which no script of the machine's own makes."""


class HealthCheckStopped(WireModel):
    """The newest run of a check in a place was stopped, other than the one before; or (None) is stopped no longer."""

    check_id: UUID
    check_name: str
    place: str
    place_name: str | None
    stopped: Stop | None
    message: str
    silenced: StrictBool = False


class SilenceChange(enum.StrEnum):
    """What became of a silence."""

    ADDED = "added"
    ENDED = "ended"


class HealthSilenceChanged(WireModel):
    """Somebody wants not to be told of some changes of state from `since` until `until`, or wants to be told again."""

    silence_id: UUID
    change: SilenceChange
    check_id: UUID | None
    label: str | None
    place: str | None
    reason: str
    since: dt.datetime
    until: dt.datetime


SILENCES = "health-silences"
"""The event stream of all silences."""
health_check_changed = Hook(
    "health-check-changed", HealthCheckChanged, payload_rule="health-checks.check.read"
)
health_state_changed = Hook(
    "health-state-changed", HealthStateChanged, payload_rule="health-checks.check.read"
)
health_check_stopped = Hook(
    "health-check-stopped", HealthCheckStopped, payload_rule="health-checks.check.read"
)
health_silence_changed = Hook(
    "health-silence-changed", HealthSilenceChanged, payload_rule="health-checks.check.read"
)


def stream_of(check: UUID) -> str:
    """The event stream that tells the life of one check."""
    return f"health-check.{check}"
