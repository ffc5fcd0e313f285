"""What an operator can set of secrets, in the environment or the settings file."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ringfence_secrets.keyring import VARIABLE, KeyringError, parse_keys


class SecretsSettings(BaseSettings):
    """The settings. Raises `pydantic.ValidationError` naming what is wrong."""

    model_config = SettingsConfigDict(
        env_prefix="RINGFENCE_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    secrets_key: SecretStr | None = Field(
        default=None,
        description="the keys that encrypt secrets, each 32 bytes in base64, separated by commas; without it, a file "
        "in the data directory",
    )

    @field_validator("secrets_key")
    @classmethod
    def _are_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and value.get_secret_value().strip():
            try:
                parse_keys(value.get_secret_value())
            except KeyringError as error:
                raise ValueError(str(error).removeprefix(f"{VARIABLE} ")) from None
        return value
