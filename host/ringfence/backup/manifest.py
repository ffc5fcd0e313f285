"""What a backup says of itself, and what is in a database: versions, revisions, position, counts and keys."""

from __future__ import annotations

import datetime as dt
from typing import Final, Literal

from pydantic import Field

from ringfence.sandbox.wire import WireModel

FORMAT: Final = 1


class LogPosition(WireModel):
    """The newest event of a log; `hash` is the last link of its stream's chain."""

    position: int
    occurred_at: dt.datetime
    hash: str


class NeededKey(WireModel):
    """A key that rows of a plugin need, by its fingerprint."""

    plugin: str
    fingerprint: str
    rows: int
    included: bool


class Contents(WireModel):
    """What is in a database."""

    server: int
    """The version of PostgreSQL, as `server_version_num` says it."""
    database_bytes: int
    extensions: dict[str, str]
    revisions: dict[str, tuple[str, ...]]
    """How far the migrations of the host and of each plugin have come."""
    event_log: LogPosition | None
    streams: dict[str, int]
    """The revision of each setting that has a history of its own, such as the policy."""
    rows: dict[str, int]
    """How many rows each table has."""

    @property
    def server_major(self) -> int:
        """The major version of PostgreSQL."""
        return self.server // 10_000


class Manifest(WireModel):
    """What a backup says of itself."""

    format: Literal[1] = FORMAT
    ringfence: str
    made_at: dt.datetime
    pg_dump: int
    """The major version of the pg_dump that wrote it."""
    contents: Contents
    keys: tuple[NeededKey, ...] = Field(default=())
