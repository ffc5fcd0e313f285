"""What an operator can set of script packages, in the environment (`RINGFENCE_SCRIPT_PACKAGES_…`)."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from ringfence.bounded import Days

from ringfence_script_packages.packages.resolving.registries import RegistrySettings

MIB = 1024 * 1024


class ScriptPackagesSettings(BaseSettings):
    """The settings. Raises `pydantic.ValidationError` naming what is wrong."""

    model_config = SettingsConfigDict(
        env_prefix="RINGFENCE_SCRIPT_PACKAGES_",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    max_set_mib: int = Field(
        default=300, ge=1, le=1_000_000, description="how large the files of a set may be together, in MiB"
    )
    registries: RegistrySettings = Field(
        default=RegistrySettings(),
        description="where packages come from, as JSON: pythonIndexes, npmRegistry, npmScopes, credentials",
    )

    unused_days: Days = Field(
        default=7.0, description="how long files and locks are kept that no set names any more, in days"
    )

    @property
    def unused_seconds(self) -> float:
        """How long what no set names is kept, in seconds."""
        return self.unused_days * 86_400

    @property
    def max_set_bytes(self) -> int:
        """The limit of a set in bytes."""
        return self.max_set_mib * MIB
