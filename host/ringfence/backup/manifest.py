"""What a backup says of itself, and what is in a database: versions, revisions, position, counts and keys."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Final

from pydantic import Field, StrictBool, StrictInt

from ringfence.bounded import Int32, Int64
from ringfence.sandbox.wire import WireModel

FORMAT: Final = 1


class LogPosition(WireModel):
    """The newest event of a log; `hash` is the last link of its stream's chain."""

    position: Int64
    occurred_at: dt.datetime
    hash: str


class NeededKey(WireModel):
    """A key that rows of a plugin need, by its fingerprint."""

    plugin: str
    fingerprint: str
    rows: Int64
    included: StrictBool


class Contents(WireModel):
    """What is in a database."""

    server: Int32
    """The version of PostgreSQL, as `server_version_num` says it."""
    database_bytes: Int64
    extensions: dict[str, str]
    revisions: dict[str, tuple[str, ...]]
    """How far the migrations of the host and of each plugin have come."""
    event_log: LogPosition | None
    streams: dict[str, Int64]
    """The revision of each setting that has a history of its own, such as the policy."""
    rows: dict[str, Int64]
    """How many rows each table has."""

    @property
    def server_major(self) -> int:
        """The major version of PostgreSQL."""
        return self.server // 10_000


class Manifest(WireModel):
    """What a backup says of itself."""

    format: Annotated[StrictInt, Field(ge=FORMAT, le=FORMAT)] = FORMAT
    ringfence: str
    made_at: dt.datetime
    pg_dump: Int32
    """The major version of the pg_dump that wrote it."""
    contents: Contents
    keys: tuple[NeededKey, ...] = Field(default=())
