"""What an operator can set of notifications, in the environment (`RINGFENCE_NOTIFICATIONS_…`)."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from ringfence.bounded import Days


class NotificationsSettings(BaseSettings):
    """The settings. Raises `pydantic.ValidationError` naming what is wrong."""

    model_config = SettingsConfigDict(
        env_prefix="RINGFENCE_NOTIFICATIONS_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    retention_days: Days = Field(
        default=30.0, description="how long messages, and incidents that are over, are kept, in days"
    )
