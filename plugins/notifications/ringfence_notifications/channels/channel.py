"""A channel: a name, the kind of its address, and what whoever reads it wants."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, ConfigDict, Field, StrictBool, StringConstraints, model_validator
from ringfence import WireModel

from ringfence_notifications.deciding import QuietHours
from ringfence_notifications.severity import Severity

PER_HOUR = 30

_NAME = r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$"
ChannelName = Annotated[str, StringConstraints(pattern=_NAME)]


def is_channel_name(name: str) -> bool:
    """Whether a channel can be called so."""
    return re.fullmatch(_NAME, name) is not None


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("is no time zone: write one such as Europe/Berlin or UTC")
    return name


Clock = Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]


class Quiet(WireModel):
    """From when until when a channel is not to be disturbed, by the clocks of a zone; `passes` and worse pass."""

    model_config = ConfigDict(extra="forbid")

    begins: Clock
    ends: Clock
    zone: Annotated[str, StringConstraints(max_length=64), AfterValidator(_zone)] = "UTC"
    passes: Severity = Severity.CRITICAL

    @model_validator(mode="after")
    def _lasts(self) -> Quiet:
        if self.begins == self.ends:
            raise ValueError("quiet hours must not begin when they end")
        return self

    def hours(self) -> QuietHours:
        """The same as the core takes it."""
        return QuietHours(
            dt.time.fromisoformat(self.begins),
            dt.time.fromisoformat(self.ends),
            ZoneInfo(self.zone),
            self.passes,
        )


class ChannelSettings(WireModel):
    """What whoever reads a channel wants: at most `per_hour` messages, and nothing that is less bad than `at_least`."""

    model_config = ConfigDict(extra="forbid")

    enabled: StrictBool = True
    at_least: Severity = Severity.INFO
    per_hour: Annotated[int, Field(ge=2, le=1000, strict=True)] = PER_HOUR
    quiet: Quiet | None = None


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as it is stored: everything but its address, which is kept apart."""

    name: str
    kind: str
    secret_names: tuple[str, ...]
    settings: ChannelSettings
    updated_at: dt.datetime
    updated_by: str
    sent_at: dt.datetime | None = None
    failed_at: dt.datetime | None = None
    error: str | None = None

    @property
    def fails(self) -> bool:
        """Whether the last message was not taken."""
        return self.failed_at is not None and (self.sent_at is None or self.failed_at > self.sent_at)

    def to_wire(self) -> dict[str, Any]:
        """The channel as JSON for the API."""
        return {
            "name": self.name,
            "kind": self.kind,
            "secrets": list(self.secret_names),
            **self.settings.model_dump(mode="json", by_alias=True),
            "updatedAt": self.updated_at,
            "updatedBy": self.updated_by,
            "sentAt": self.sent_at,
            "failedAt": self.failed_at,
            "error": self.error,
        }
