"""What an operator can set of the fleet, in the environment (`RINGFENCE_SATELLITE_…`)."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from ringfence.bounded import Days


class SatelliteSettings(BaseSettings):
    """The settings of one instance. Raises `pydantic.ValidationError` naming what is wrong."""

    model_config = SettingsConfigDict(
        env_prefix="RINGFENCE_SATELLITE_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    max_unauthenticated: int = Field(
        default=10_000,
        ge=1,
        description="how many sockets may be open that have not authenticated (yet); as many as satellites that may "
        "come back at the same moment",
    )
    run_retention_days: Days = Field(
        default=1.0, description="how long runs that have ended are kept, in days, with what they gave back"
    )

    @property
    def run_retention_seconds(self) -> float:
        """The same in seconds."""
        return self.run_retention_days * 86_400
