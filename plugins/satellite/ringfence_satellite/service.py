"""What the satellite plugin offers to other plugins.

It runs a script on a satellite, and has satellites carry out work.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from ringfence.scripts import Mask, RunResult, ScriptRequest
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_satellite.protocol import (
    MAX_INTERVAL_SECONDS,
    MIN_INTERVAL_SECONDS,
    Assignment,
    CheckResult,
    JsonObject,
    PlacedTask,
    RunScript,
    StrategyError,
)
from ringfence_satellite.selector import Selector, SelectorError, SelectorText

__all__ = [
    "MAX_INTERVAL_SECONDS",
    "MIN_INTERVAL_SECONDS",
    "READ",
    "Absence",
    "AssignedSatellite",
    "Assignment",
    "AssignmentSource",
    "CheckResult",
    "JsonObject",
    "KnownSatellite",
    "NoAnswer",
    "PlacedTask",
    "Presence",
    "RunEnd",
    "RunFailed",
    "RunOutcome",
    "RunScript",
    "RunSecretSource",
    "SatelliteAway",
    "SatelliteBusy",
    "Satellites",
    "SecretsUnavailable",
    "Selector",
    "SelectorError",
    "SelectorText",
    "StrategyError",
    "UnknownSatellite",
]


READ = "satellite.satellite.read"
"""The access rule with which somebody may see a satellite; it may be narrowed to tags."""


class RunFailed(RuntimeError):
    """A run has no result; the message says why."""


class UnknownSatellite(RunFailed):
    """There is no satellite with this id."""


class SatelliteAway(RunFailed):
    """The satellite cannot be reached: it is offline, has gone, or does not take any more."""


class NoAnswer(RunFailed):
    """The satellite did not answer in time."""


class SatelliteBusy(RunFailed):
    """The satellite has as many runs that have not ended as it may have."""


class RunOutcome(enum.StrEnum):
    """How a run has ended. Only one that has `finished` has a result.

    What was `refused` was not run: the satellite could not, or would not. What is `lost` may have been run, and nobody
    can say. What has `expired` was never handed over.
    """

    FINISHED = "finished"
    CANCELLED = "cancelled"
    LOST = "lost"
    REFUSED = "refused"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run has ended: its result as JSON if it has one, and else the reason why it has none."""

    outcome: RunOutcome
    result: JsonObject | None = None
    reason: str | None = None


class SecretsUnavailable(RuntimeError):
    """The secrets of a run cannot be had; the message, which the satellite is told, says why."""


@dataclass(frozen=True, slots=True)
class AssignedSatellite:
    """A satellite, as far as what it is assigned depends on it.

    `labels` are all of them, by name; `tags` the same as texts, `name` or `name=value`, and tags that are no labels.
    """

    id: UUID
    tags: frozenset[str]
    name: str = ""
    region: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    vars: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def facts(self) -> Mapping[str, str]:
        """What a script may be told of the satellite that it runs on, by name: `satellite.name`, `vars.disk_warn`."""
        region = {} if self.region is None else {"satellite.region": self.region}
        return {
            "satellite.id": str(self.id),
            "satellite.name": self.name,
            **region,
            **{f"vars.{name}": value for name, value in self.vars.items()},
        }


@dataclass(frozen=True, slots=True)
class KnownSatellite(AssignedSatellite):
    """A registered satellite. `status` is online, offline or never."""

    status: str = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Absence:
    """A satellite that is offline, and since when.

    `concluded`: it has been so for longer than its threshold while the fleet could hear it; so this is a fact to act
    on, and not an outage of the host, or the restart of an agent.
    """

    id: UUID
    since: dt.datetime
    concluded: bool


@dataclass(frozen=True, slots=True)
class Presence:
    """Who is offline, and what that stands on: up to when, and since when without a break, the fleet heard satellites.

    Times are of the database's clock.
    """

    heard_until: dt.datetime
    steady_since: dt.datetime
    absent: Sequence[Absence]


class Satellites(Protocol):
    """The service: reaches satellites wherever they are connected."""

    async def run_script(self, satellite: UUID, request: ScriptRequest) -> RunResult:
        """Run a script on a satellite that is online, under the policy that it has applied, and answer its result.

        If this is cancelled, the run is ended. The request waits in the database until the satellite has it, so it
        must not have `secret_env`, nor a secret in anything else; nor can it have `listen` or `facts`.

        Raises:
            ValueError: for a request that cannot be sent.
            RunFailed: `UnknownSatellite`, `SatelliteAway` or `NoAnswer`; or the result cannot be read here.
        """

    async def run(self, satellite: UUID, frame: RunScript) -> JsonObject:
        """Run a script on a satellite, and answer its result as JSON. Raises `RunFailed`.

        The run is given an id of its own. The frame is in the database until the satellite has it, so secrets do not
        belong into it: name the assignment (`config_id`) that has them. If this is cancelled, the run is ended.
        """

    async def ask(
        self,
        satellite: UUID,
        frame: RunScript,
        *,
        id: UUID,
        session: AsyncSession,
        by: str | None = None,
        deliver_within: float = 300.0,
        has_secrets: bool = False,
    ) -> bool:
        """Have a script run as soon as the satellite is there; False if the run of this id has been asked for before.

        The caller's transaction is joined: if that is rolled back, nothing was asked. The id is the caller's own, and
        takes the place of the frame's: asking again with it runs nothing again, as long as runs are kept after their
        end (`RINGFENCE_SATELLITE_RUN_RETENTION_DAYS`). How the run ends is the hook `satellite-run-finished`, and then
        `outcome`. A satellite that is offline, or whose connection is lost, is waited for: `deliver_within` seconds
        until it has the run, and an hour beyond the script's own time for its result.

        A run that `has_secrets` is handed over without them. The satellite asks for them just before it starts the
        script, and gets what a `RunSecretSource` says, unless the run has ended or is not wanted any more.

        Raises:
            RunFailed: `UnknownSatellite` or `SatelliteBusy`.
            ValueError: if the frame is too large, or the id is that of a run on another satellite.
        """

    async def hold(self, satellites: Collection[UUID], *, session: AsyncSession) -> None:
        """Have these satellites for the caller's transaction, which is going to `ask` several of them.

        They are locked in the order in which everybody does. Who asks one after the other without this, may wait for
        somebody who waits for the event log, in which the first of the requests has been written by then.
        """

    async def outcome(self, id: UUID, *, session: AsyncSession | None = None) -> RunEnd | None:
        """How a run has ended; None while it has not. Raises `RunFailed` when there is no such run (any more)."""

    async def cancel(self, id: UUID, *, by: str | None = None, session: AsyncSession | None = None) -> None:
        """Have a run ended: at once if it has not been handed over, and else where it runs. Again is as once.

        It is given no secrets any more. With a `session`, that transaction is joined.
        """

    async def reassign(self, concerned: Callable[[AssignedSatellite], bool]) -> None:
        """Have satellites that are connected to this instance, and `concerned`, told of their assignments anew.

        To be called on each instance: from the listener of a broadcast hook.
        """

    async def find(
        self,
        *,
        ids: Collection[UUID] | None = None,
        tags: Collection[str] | None = None,
        selector: Selector | None = None,
        names: Collection[str] | None = None,
    ) -> Sequence[KnownSatellite]:
        """Those that have one of the ids, names or tags, or are selected; all if nothing is given. By name."""

    async def presence(self) -> Presence:
        """Which satellites are offline. One that has never connected is not among them."""

    async def names(
        self, ids: Collection[UUID], *, reach: Collection[Collection[str]] | None = None
    ) -> Mapping[UUID, str]:
        """The names of those of the satellites that exist; with a `reach` (see `Principal`), of those within it."""


class AssignmentSource(Protocol):
    """The extension point: a plugin with work for satellites says what it is, and takes what comes of it.

    A satellite is let in before it is asked for here, so a change that is announced with `reassign` after it
    can be read here is missed by none. What is asked here must be quick: many satellites connect at once.
    """

    async def assignments(self, satellite: AssignedSatellite) -> Sequence[Assignment]:
        """What this satellite is to do now."""

    async def report(self, satellite: AssignedSatellite, frame: CheckResult | StrategyError) -> bool:
        """Take a report, and have it stored when this returns: it is acknowledged then.

        A result that comes again (the same `result_id` of the same satellite) must be stored once. False when the
        satellite is not assigned what it reports on, and nothing was taken. Whatever it raises leaves it to be sent
        again.
        """

    async def secrets(self, satellite: AssignedSatellite, config_id: str) -> Mapping[str, str] | None:
        """The secrets for one run of an assignment, by the names of their variables.

        None when the satellite is not assigned it. Raises `SecretsUnavailable`.
        """


class RunSecretSource(Protocol):
    """The extension point: a plugin that has asked for runs with secrets gives them just in time.

    They pass through the host's memory and the connection, and are written down nowhere.
    """

    async def run_secrets(self, satellite: AssignedSatellite, run: UUID) -> Mapping[str, str] | None:
        """The secrets of a run, by the names that its task has for them; None if the run is not this plugin's.

        It is asked only about runs that `satellite` has been handed, that have not ended and are not cancelled. The
        satellite masks each of the values, also those that the task does not name. Raises `SecretsUnavailable`.
        """

    async def run_mask(self, run: UUID) -> Mask | None:
        """What is blotted out of the run's result before it is stored, if the run is this plugin's.

        That is for secrets which the satellite was not given with this run. Whatever it raises has the result stored
        without its output.
        """
