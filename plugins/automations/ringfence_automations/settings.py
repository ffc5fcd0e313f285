"""What an operator can set of automations, in the environment (`RINGFENCE_AUTOMATIONS_…`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from ringfence.bounded import Days

PositiveCount = Annotated[int, Field(ge=1, le=1_000_000_000)]


class AutomationsSettings(BaseSettings):
    """The settings. Raises `pydantic.ValidationError` naming what is wrong."""

    model_config = SettingsConfigDict(
        env_prefix="RINGFENCE_AUTOMATIONS_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    run_retention_days: Days = Field(
        default=30.0, description="how long runs that have ended are kept, in days"
    )

    max_runs_per_hour: PositiveCount = Field(
        default=10_000, description="how often an automation may be started in an hour before it is paused"
    )

    @property
    def run_retention_seconds(self) -> float:
        """The same in seconds."""
        return self.run_retention_days * 86_400
