"""What an operator can set of health checks, in the environment (`RINGFENCE_HEALTH_CHECKS_…`)."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from ringfence.bounded import Days


class HealthChecksSettings(BaseSettings):
    """The settings. Raises `pydantic.ValidationError` naming what is wrong."""

    model_config = SettingsConfigDict(
        env_prefix="RINGFENCE_HEALTH_CHECKS_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    result_retention_days: Days = Field(
        default=30.0,
        description="how long results are kept, in days; the newest of each place is kept on",
    )

    @property
    def result_retention_seconds(self) -> float:
        """The same in seconds."""
        return self.result_retention_days * 86_400
