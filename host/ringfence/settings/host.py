"""What an operator can set: read from the environment (`RINGFENCE_…`) and validated once."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ringfence.bounded import Days, Seconds, ShortText, Text
from ringfence.metrics.open_port import address_of
from ringfence.storage.datadir import default_data_dir

DEFAULT_PORT = 8484
MOST_SOCKET_BYTES = 107
START_SECONDS = 60.0


class HostSettings(BaseSettings):
    """Settings of one instance. Raises `pydantic.ValidationError` naming the variable that is wrong."""

    # A variable that is set to nothing is one that is not set, as for the commands.
    model_config = SettingsConfigDict(
        env_prefix="RINGFENCE_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    database_url: Text | None = Field(default=None, description="PostgreSQL URL; unset: the embedded server")
    database_wait_seconds: float = Field(
        default=60.0,
        ge=0,
        le=3600,
        description="how long a start waits for a database that does not answer, in seconds",
    )
    data_dir: Path = Field(
        default_factory=default_data_dir, description="where this instance keeps its files"
    )
    host: ShortText = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(
        default=DEFAULT_PORT, ge=0, le=65535, description="TCP port to listen on; 0 picks a free one"
    )
    socket: Path | None = Field(
        default=None,
        description="a Unix socket to listen on as well, for a reverse proxy on this machine; its group may use it",
    )
    trusted_proxies: ShortText = Field(
        default="127.0.0.1,::1",
        description=(
            "addresses and networks of reverse proxies whose word for the client's "
            "address is trusted, separated by commas"
        ),
    )
    allowed_hosts: ShortText = Field(
        default="",
        description=(
            "names under which browsers may reach the pages, separated by commas; "
            "addresses, localhost and this machine's own name are always allowed"
        ),
    )
    public_url: ShortText | None = Field(
        default=None,
        description=(
            "address at which browsers and satellites reach the host, such as https://core.example.org, for what it "
            "tells people; unset: the address that the browser has asked"
        ),
    )
    metrics_address: ShortText | None = Field(
        default=None,
        description=(
            "an address and a port, such as 127.0.0.1:9464, that serve /metrics without a token, and nothing else; "
            "unset: only the host's own address does, to holders of host.metrics.read"
        ),
    )
    session_idle_hours: float = Field(
        default=12.0,
        gt=0,
        le=24 * 365,
        allow_inf_nan=False,
        description="after how long without use a browser's session ends, in hours",
    )
    session_hours: float = Field(
        default=24.0 * 7,
        gt=0,
        le=24 * 365,
        allow_inf_nan=False,
        description="after how long a browser's session ends in any case, in hours",
    )
    start_seconds: Seconds = Field(
        default=START_SECONDS,
        description="deadline of each plugin's register, init and after_plugins_ready, in seconds",
    )
    shutdown_seconds: Seconds = Field(
        default=10.0, description="deadline of each plugin's shutdown, in seconds"
    )
    drain_seconds: Seconds = Field(
        default=20.0, description="how long a stop waits for what is under way, in seconds"
    )
    drain_linger_seconds: float = Field(
        default=0.0,
        ge=0,
        le=3600,
        description="how long a stop takes at least, for load balancers to notice, in seconds",
    )
    event_retention_days: Days = Field(
        default=30.0, description="how long events are kept, in days; streams kept for ever are exempt"
    )

    job_retention_days: Days = Field(
        default=14.0, description="how long jobs are kept after they have ended, in days"
    )

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: str | None) -> str | None:
        if not value:
            return None
        scheme, separator, rest = value.partition("://")
        if not separator or scheme.partition("+")[0] not in {"postgresql", "postgres"}:
            raise ValueError("must be a PostgreSQL URL such as postgresql://user:password@host:5432/database")
        return f"postgresql+psycopg://{rest}"

    @field_validator("public_url")
    @classmethod
    def _is_an_origin(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            named = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1) > 0
        except ValueError:
            named = False
        if not named or parts.path not in {"", "/"} or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("must be an address such as https://core.example.org, without a path")
        return f"{parts.scheme}://{parts.netloc}"

    @field_validator("metrics_address")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None:
            address_of(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        for one in filter(None, map(str.strip, value.split(","))):
            try:
                ip_network(one)
            except ValueError as error:
                raise ValueError(
                    f"{one!r} is no address or network ({error}): write them as 10.0.0.5,10.1.0.0/16"
                ) from None
        return value

    @field_validator("socket")
    @classmethod
    def _fits_an_address(cls, value: Path | None) -> Path | None:
        if value is not None and len(str(value.expanduser().absolute()).encode()) > MOST_SOCKET_BYTES:
            raise ValueError(f"the path of a Unix socket has at most {MOST_SOCKET_BYTES} bytes (unix(7))")
        return None if value is None else value.expanduser().absolute()

    @field_validator("data_dir")
    @classmethod
    def _is_absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()
