"""What an operator can set of the diary."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class DiarySettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="RINGFENCE_POLICY_DIARY_", env_ignore_empty=True)

    max_letters: int = Field(default=1000, ge=1, description="how long an entry may be that a person writes")
