"""Plugin configs: one JSON document per plugin and key, with a schema version and upgrades of what is stored.

A document that an older release wrote is upgraded step by step when it is read; one that a *newer* release wrote is
refused, rather than guessed at.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from psycopg import AsyncConnection
from pydantic import BaseModel, ValidationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence.bounded import bounded_json
from ringfence.redaction import problems

M = TypeVar("M", bound=BaseModel)
Upgrade = Callable[[dict[str, Any]], dict[str, Any]]


_PUT = text("""
    INSERT INTO plugin_configs (plugin, key, schema_version, value, updated_at, updated_by)
    VALUES (:plugin, :key, :version, CAST(:value AS jsonb), :at, :by)
    ON CONFLICT (plugin, key) DO UPDATE SET schema_version = excluded.schema_version,
        value = excluded.value, updated_at = excluded.updated_at, updated_by = excluded.updated_by
        WHERE plugin_configs.schema_version <= excluded.schema_version
    RETURNING key
""")
_GET = text("SELECT schema_version, value FROM plugin_configs WHERE plugin = :plugin AND key = :key")
_WHEN = "SELECT updated_at FROM plugin_configs WHERE plugin = %s AND key = %s"
_GET_LOCKED = text(f"{_GET.text} FOR UPDATE")


class ConfigError(RuntimeError):
    """A stored config cannot be read as what its plugin declared; the message says which and why."""


@dataclass(frozen=True, slots=True)
class ConfigSchema(Generic[M]):
    """A config that a plugin declares: its key, its model, the model's version.

    `upgrades[n]` turns a document of version n into one of version n + 1.
    """

    key: str
    model: type[M]
    version: int = 1
    upgrades: Mapping[int, Upgrade] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if missing := [step for step in range(1, self.version) if step not in self.upgrades]:
            raise ConfigError(
                f"config {self.key} is at version {self.version} but has no upgrade from {missing}"
            )

    def load(self, plugin: str, stored_version: int, value: dict[str, Any]) -> M:
        """Upgrade and parse a stored document. Raises `ConfigError`."""
        where = f"config {self.key} of {plugin}"
        if stored_version > self.version:
            raise ConfigError(
                f"{where} was written by a newer release (schema {stored_version}, this one knows {self.version}); "
                "run the newer release"
            )
        for step in range(stored_version, self.version):
            try:
                value = self.upgrades[step](value)
            except Exception as error:
                raise ConfigError(
                    f"{where} cannot be upgraded from schema {step} to {step + 1}: {type(error).__name__}: {error}"
                ) from error
        try:
            return self.model.model_validate(value)
        except ValidationError as error:
            raise ConfigError(f"{where} does not fit its model: {problems(error)}") from error


class ConfigWrite(NamedTuple):
    """A config's new document, and which one it replaces: the one that was last written then, or none."""

    key: str
    version: int
    document: str
    replaces: dt.datetime | None
    updated_at: dt.datetime
    updated_by: str | None


class PluginConfigs:
    """One plugin's configs. Reads and writes happen in the caller's session, and so in the caller's transaction."""

    def __init__(self, plugin: str, schemas: Mapping[str, ConfigSchema[Any]]) -> None:
        self._plugin = plugin
        self._schemas = schemas

    async def get(self, schema: ConfigSchema[M], *, session: AsyncSession, lock: bool = False) -> M | None:
        """The stored config, or None when there is none. `lock` keeps others from writing it in this transaction."""
        self._check(schema)
        row = (
            await session.execute(
                _GET_LOCKED if lock else _GET,
                {"plugin": self._plugin, "key": schema.key},
            )
        ).one_or_none()
        return None if row is None else schema.load(self._plugin, row.schema_version, row.value)

    async def updated_at(
        self, schema: ConfigSchema[M], *, connection: AsyncConnection[tuple[Any, ...]]
    ) -> dt.datetime | None:
        """When the stored config was last written; None when there is none."""
        self._check(schema)
        row = await (await connection.execute(_WHEN, (self._plugin, schema.key))).fetchone()
        return None if row is None else row[0]

    async def put(
        self,
        schema: ConfigSchema[M],
        value: M,
        *,
        session: AsyncSession,
        updated_by: str | None = None,
        updated_at: dt.datetime | None = None,
    ) -> None:
        """Store the config at its schema's current version. `updated_at` is for projections: by default, now.

        Raises `ConfigError` rather than overwrite what a newer release wrote, and for a value that cannot be stored.
        """
        stored = await session.execute(
            _PUT,
            {
                "plugin": self._plugin,
                "key": schema.key,
                "version": schema.version,
                "value": self._document(schema, value),
                "at": updated_at or dt.datetime.now(dt.UTC),
                "by": updated_by,
            },
        )
        if stored.first() is None:
            raise ConfigError(
                f"config {schema.key} of {self._plugin} was written by a newer release: change it with that one"
            )

    async def delete(self, schema: ConfigSchema[Any], *, session: AsyncSession) -> None:
        """Remove the stored config, if there is one."""
        self._check(schema)
        await session.execute(
            text("DELETE FROM plugin_configs WHERE plugin = :plugin AND key = :key"),
            {"plugin": self._plugin, "key": schema.key},
        )

    def _document(self, schema: ConfigSchema[M], value: M) -> str:
        self._check(schema)
        try:
            return json.dumps(bounded_json(value.model_dump(mode="json", by_alias=True)))
        except ValueError as error:
            raise ConfigError(
                f"config {schema.key} of {self._plugin} cannot be stored: it {error}"
            ) from error

    def _check(self, schema: ConfigSchema[Any]) -> None:
        if self._schemas.get(schema.key) is not schema:
            raise ConfigError(
                f"config {schema.key} is not declared by {self._plugin}: pass it to registry.config()"
            )


def write_of(
    configs: PluginConfigs,
    schema: ConfigSchema[M],
    value: M,
    *,
    replaces: dt.datetime | None,
    updated_at: dt.datetime,
    updated_by: str | None,
) -> ConfigWrite:
    """What `PluginContext.emit_with_config` stores. Raises `ConfigError` for a value that cannot be stored."""
    document = configs._document(schema, value)
    return ConfigWrite(schema.key, schema.version, document, replaces, updated_at, updated_by)
