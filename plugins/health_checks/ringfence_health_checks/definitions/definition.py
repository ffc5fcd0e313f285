"""What a check is: the definition that an administrator writes. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
    model_serializer,
    model_validator,
)
from ringfence import WireModel
from ringfence.bounded import Label, ShortText
from ringfence.scripts import Cron
from ringfence.scripts.schedule.cron import UTC
from ringfence.scripts.schedule.when_due import Schedule
from ringfence.scripts.tasks.placeholders import UnknownPlaceholderError
from ringfence.scripts.tasks.task import amended
from ringfence_satellite.service import (
    MAX_INTERVAL_SECONDS,
    MIN_INTERVAL_SECONDS,
    AssignedSatellite,
    Assignment,
    PlacedTask,
    SelectorText,
)

from ringfence_health_checks.definitions.named_task import NamedTask
from ringfence_health_checks.definitions.patience import DEFAULT_FLAPPING, MAX_IN_A_ROW, Flapping, Patience

CORE = "core"
"""The place of a run that is not on a satellite."""
DEFAULT_INTERVAL_SECONDS = 60.0
INTERVAL = "intervalSeconds"
STALE_INTERVALS = 3
"""A result that is older than so many intervals, and the timeout, says nothing of how things are now."""
STRIPPED = "sandbox"
"""The policy is global: a check that brings one of its own (older releases stored it) is taken without it."""

READ_AS = "readAs"
"""How the output is read: what the definition says, or what suits it. It is told, and follows from the rest."""


class _Model(WireModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Placement(_Model):
    """Where a check runs: on the core, and on satellites by their ids, by one of the tags and by a selector."""

    core: StrictBool = False
    satellites: Annotated[tuple[UUID, ...], Field(max_length=1000)] = ()
    tags: Annotated[tuple[Label, ...], Field(max_length=50)] = ()
    selector: SelectorText | None = None

    @model_validator(mode="after")
    def _is_somewhere(self) -> Self:
        if not (self.core or self.satellites or self.tags or self.selector):
            raise ValueError(
                'must name at least one place: "core": true, or satellites by id, by tag or by a selector'
            )
        return self

    @model_serializer(mode="wrap")
    def _told(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Releases that know no selectors can read a check that has none.
        told: dict[str, Any] = serialize(self)
        return {key: value for key, value in told.items() if value is not None}

    def includes(self, satellite: AssignedSatellite) -> bool:
        """Whether the check runs on this satellite."""
        return (
            satellite.id in self.satellites
            or not satellite.tags.isdisjoint(self.tags)
            or (self.selector is not None and self.selector.matches(satellite.labels))
        )


class Definition(NamedTask):
    """A check as it is written: what it runs and how that is read, where, and how often."""

    interval_seconds: (
        Annotated[StrictFloat, Field(ge=MIN_INTERVAL_SECONDS, le=MAX_INTERVAL_SECONDS)] | None
    ) = None
    cron: ShortText | None = None
    timezone: ShortText | None = None
    runs_on: Placement
    enabled: StrictBool = True
    failures_before_alarm: Annotated[StrictInt, Field(ge=1, le=MAX_IN_A_ROW)] = 1
    successes_before_recovery: Annotated[StrictInt, Field(ge=1, le=MAX_IN_A_ROW)] = 1
    flapping: Flapping | None = DEFAULT_FLAPPING

    @model_validator(mode="before")
    @classmethod
    def _without_policy(cls, given: Any) -> Any:
        return (
            {key: value for key, value in given.items() if key not in (STRIPPED, READ_AS)}
            if isinstance(given, dict)
            else given
        )

    @model_validator(mode="after")
    def _gives_secrets_where_a_label_is(self) -> Self:
        """Threat: a satellite without labels, which who may manage satellites can make, gets secrets by `!x` or `x!=y`.

        Giving a satellite a label takes the rule to place it.
        """
        selector = self.runs_on.selector
        if self.secret_names and selector is not None and not selector.needs_label:
            raise ValueError(
                f"the selector {selector} also means satellites without any label, and the check has secrets: "
                "require a label too, such as: env=prod"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _by_default(cls, given: Any) -> Any:
        """One that says nothing of when it runs has an interval."""
        if not isinstance(given, dict) or any(
            given.get(name) is not None for name in ("cron", INTERVAL, "interval_seconds")
        ):
            return given
        return {**given, INTERVAL: DEFAULT_INTERVAL_SECONDS}

    @model_validator(mode="after")
    def _has_one_schedule(self) -> Self:
        if self.interval_seconds is not None and self.cron is not None:
            raise ValueError("has either an interval (intervalSeconds) or times (cron), and not both")
        if self.timezone is not None and self.cron is None:
            raise ValueError("has a time zone only with times (cron)")
        _ = self.schedule
        return self

    @property
    def schedule(self) -> Schedule:
        """When it runs."""
        if self.cron is not None:
            return Cron(self.cron, self.timezone or UTC)
        return self.interval_seconds or DEFAULT_INTERVAL_SECONDS

    @property
    def longest_gap_seconds(self) -> float:
        """The longest time from one run to the next."""
        schedule = self.schedule
        return schedule.longest_gap_seconds if isinstance(schedule, Cron) else schedule

    @property
    def shortest_gap_seconds(self) -> float:
        """The shortest time from one run to the next."""
        schedule = self.schedule
        return schedule.shortest_gap_seconds if isinstance(schedule, Cron) else schedule

    @classmethod
    def stored(cls, wire: Mapping[str, Any]) -> Self:
        """What was stored, maybe by a newer release: what is not known here is left out."""
        known = {field.alias for field in cls.model_fields.values()}
        return cls.model_validate({key: value for key, value in wire.items() if key in known})

    @property
    def patience(self) -> Patience:
        """How its states are settled."""
        return Patience(self.failures_before_alarm, self.successes_before_recovery, self.flapping)

    @property
    def grace_seconds(self) -> float | None:
        """How old the newest result of a place may be; None for a check that does not run."""
        return STALE_INTERVALS * self.longest_gap_seconds + self.timeout_seconds if self.enabled else None

    def amended(self, partial: Mapping[str, Any]) -> Definition:
        """This definition with `partial` (in wire names) over it. Raises `pydantic.ValidationError`."""
        current = self.to_wire()
        if partial.get("cron") is not None:
            current[INTERVAL] = None
        elif partial.get(INTERVAL) is not None:
            current |= {"cron": None, "timezone": None}
        return Definition.model_validate(amended(current, partial))

    def to_wire(self) -> dict[str, Any]:
        """The same as JSON, with how its output is read."""
        wire = self.model_dump(mode="json", by_alias=True)
        absent = [name for name in ("script", "command", "stdin", "needs", "packages") if wire[name] is None]
        return {name: value for name, value in wire.items() if name not in absent} | self._reading()

    def _reading(self) -> dict[str, Any]:
        return {READ_AS: self.read_as.value}

    def summary(self) -> dict[str, Any]:
        """The same without the script, which is replaced by its digest: for the event log, which is kept."""
        wire = self.to_wire()
        script = wire.pop("script", "")
        return {**wire, "scriptSha256": hashlib.sha256(script.encode()).hexdigest()}

    @property
    def is_alike_everywhere(self) -> bool:
        """Whether nothing in it depends on the place where it runs."""
        return self.fact_names <= self.facts.keys()

    def assignment(self, id: UUID, place: Mapping[str, str]) -> Assignment:
        """The check `id` as a satellite with these facts is told of it."""
        try:
            work = PlacedTask.of(self, self.facts, place).parts()
        except UnknownPlaceholderError as error:
            work = {"problem": f"not run: {error}"}
        return Assignment(
            config_id=str(id),
            system_id=self.system,
            interval_seconds=self.interval_seconds,
            cron=self.cron,
            timezone=self.timezone,
            timeout_ms=self.timeout_ms,
            needs_secrets=bool(self.secret_names),
            **work,
        )


class Outline(Definition):
    """A check as it is written, apart from its script."""

    def _check_given(self) -> None:
        """The script is not here, so nothing can be said of it."""

    def _reading(self) -> dict[str, Any]:
        return {}
