"""The hooks that the satellite plugin emits: every step in a satellite's life, each an event of its own stream."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import StrictBool, StrictFloat, StrictInt
from ringfence import Hook, WireModel


def stream_of(satellite: UUID) -> str:
    """The event stream that tells the life of one satellite."""
    return f"satellite.{satellite}"


class SatelliteFact(WireModel):
    """Something happened to one satellite."""

    satellite_id: UUID


class SatelliteRegistered(SatelliteFact):
    """A satellite may connect from now on. `labels` are those with a value, for those without are tags."""

    name: str
    region: str
    tags: tuple[str, ...]
    labels: dict[str, str] | None = None
    vars: dict[str, str] | None = None


class SatelliteChanged(SatelliteFact):
    """A satellite has another name, region, offline threshold, or other tags, labels or vars: this is how it is now.

    `labels` are those with a value, for those without are tags. Earlier releases tell neither labels nor vars, and do
    not change them.
    """

    name: str
    region: str
    tags: tuple[str, ...]
    labels: dict[str, str] | None = None
    vars: dict[str, str] | None = None
    offline_after_seconds: StrictFloat


class SatelliteConnected(SatelliteFact):
    """A satellite has proved who it is; `connection` is this one of its connections, held by `instance`."""

    connection: UUID
    instance: UUID
    version: str | None


class SatelliteDisconnected(SatelliteFact):
    """A connection has ended. `clean`: the satellite said goodbye, and so is offline at once."""

    connection: UUID
    instance: UUID
    clean: StrictBool
    code: StrictInt
    reason: str


class SatellitePolicyApplied(SatelliteFact):
    """A satellite goes by a revision of the policy from now on, or can enforce more or less of it than before.

    `unknown`: the database does not have that revision. `lacking` are the layers that it cannot enforce.
    """

    revision: StrictInt
    unknown: StrictBool
    lacking: tuple[str, ...]


class SatelliteRefused(SatelliteFact):
    """An agent has said that it is this satellite, with another token. Told at most once a minute of each satellite."""


class SatelliteHeartbeatLost(SatelliteFact):
    """Nothing was heard of a satellite for longer than its threshold. Emitted once for the fleet, per silence."""

    name: str
    offline_after_seconds: StrictFloat


class SatelliteTokenRotated(SatelliteFact):
    """The old token is void: whoever holds a connection of this satellite must close it."""


class SatelliteDeleted(SatelliteFact):
    """The satellite is gone: whoever holds a connection of it must close it."""

    name: str


class SatelliteRunRequested(SatelliteFact):
    """Somebody wants a script run on a satellite, of this kind and for so long at most. The script is not told."""

    run_id: UUID
    kind: str | None = None
    timeout_ms: StrictInt | None = None


class SatelliteRunCancelRequested(SatelliteFact):
    """Somebody does not want a run any more: whoever holds the satellite has to tell it."""

    run_id: UUID


class SatelliteRunFinished(SatelliteFact):
    """A run has ended: how, and with which exit code if it has a result. What it gave back is not told.

    `stopped` is what ended it, if that was not the script itself: `refused`, `timeout`, `memory` and so on.
    """

    run_id: UUID
    outcome: str | None = None
    exit_code: StrictInt | None = None
    stopped: str | None = None


READ = "satellite.satellite.read"
"""The access rule with which what these events tell may be seen, if it is held for all satellites."""
satellite_registered = Hook("satellite-registered", SatelliteRegistered, payload_rule=READ)
satellite_changed = Hook("satellite-changed", SatelliteChanged, payload_rule=READ)
satellite_connected = Hook("satellite-connected", SatelliteConnected, payload_rule=READ)
satellite_disconnected = Hook("satellite-disconnected", SatelliteDisconnected, payload_rule=READ)
satellite_policy_applied = Hook("satellite-policy-applied", SatellitePolicyApplied, payload_rule=READ)
satellite_refused = Hook("satellite-refused", SatelliteRefused, payload_rule=READ)
satellite_heartbeat_lost = Hook("satellite-heartbeat-lost", SatelliteHeartbeatLost, payload_rule=READ)
satellite_token_rotated = Hook("satellite-token-rotated", SatelliteTokenRotated, payload_rule=READ)
satellite_deleted = Hook("satellite-deleted", SatelliteDeleted, payload_rule=READ)
satellite_run_requested = Hook("satellite-run-requested", SatelliteRunRequested, payload_rule=READ)
satellite_run_cancel_requested = Hook(
    "satellite-run-cancel-requested", SatelliteRunCancelRequested, payload_rule=READ
)
satellite_run_finished = Hook("satellite-run-finished", SatelliteRunFinished, payload_rule=READ)

ALL_HOOKS: tuple[Hook[Any], ...] = (
    satellite_registered,
    satellite_changed,
    satellite_connected,
    satellite_disconnected,
    satellite_policy_applied,
    satellite_refused,
    satellite_heartbeat_lost,
    satellite_token_rotated,
    satellite_deleted,
    satellite_run_requested,
    satellite_run_cancel_requested,
    satellite_run_finished,
)
