"""What an operator can set of git repositories, in the environment (`RINGFENCE_GITOPS_…`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from ringfence.bounded import Seconds

from ringfence_gitops.remotes.address import SCHEMES

MIB = 1024 * 1024


class GitopsSettings(BaseSettings):
    """The settings. Raises `pydantic.ValidationError` naming what is wrong."""

    model_config = SettingsConfigDict(
        env_prefix="RINGFENCE_GITOPS_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    schemes: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("https", "ssh"),
        description="which addresses of repositories are followed, of https, ssh, http and file, with commas",
    )
    timeout_seconds: Seconds = Field(
        default=60.0, description="how long fetching a repository may take, in seconds"
    )
    max_mib: Annotated[int, Field(ge=1, le=4096)] = Field(
        default=64, description="how large the newest commit of a repository may be, packed, in MiB"
    )
    allow_link_local: bool = Field(
        default=False, description="whether link-local and metadata addresses are connected to"
    )

    @field_validator("schemes", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip().lower() for part in value.split(",") if part.strip())

    @field_validator("schemes")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(value) - set(SCHEMES)):
            raise ValueError(f"{', '.join(unknown)} is none of {', '.join(SCHEMES)}")
        return value

    @property
    def most_bytes(self) -> int:
        """How large a repository may be, in bytes."""
        return self.max_mib * MIB
