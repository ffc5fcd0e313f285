"""The built-in store: a table of sealed values. A value goes in, and comes out only for a run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ringfence import PluginContext
from sqlalchemy import text

from ringfence_secrets.hooks import SecretChange, SecretChanged, secret_changed
from ringfence_secrets.kept import Kept
from ringfence_secrets.keyring import Keyring, Sealed
from ringfence_secrets.service import MissingSecretsError, SecretStore

_SET = text("""
    INSERT INTO secrets_secrets (name, key_id, sealed, updated_by) VALUES (:name, :key_id, :sealed, :by)
    ON CONFLICT (name) DO UPDATE
       SET key_id = excluded.key_id, sealed = excluded.sealed, updated_by = excluded.updated_by, updated_at = now()
    RETURNING name, key_id, created_at, updated_at, updated_by
""")
_LIST = text("""
    SELECT name, key_id, created_at, updated_at, updated_by FROM secrets_secrets
     WHERE name > :after AND (CAST(:words AS text) IS NULL OR strpos(lower(name), lower(:words)) > 0)
     ORDER BY name LIMIT :limit
""")
_ONE = text("""
    SELECT name, key_id, created_at, updated_at, updated_by FROM secrets_secrets WHERE name = :name
""")
_NAMES = text("SELECT name FROM secrets_secrets WHERE name = ANY(:names)")
_COUNT = text("SELECT count(*) FROM secrets_secrets")
_DELETE = text("DELETE FROM secrets_secrets WHERE name = :name RETURNING name")
_GET = text("SELECT name, key_id, sealed FROM secrets_secrets WHERE name = ANY(:names)")
_STALE = text(
    "SELECT name, key_id, sealed FROM secrets_secrets WHERE key_id <> :current ORDER BY name FOR UPDATE"
)
_RESEAL = text("UPDATE secrets_secrets SET key_id = :key_id, sealed = :sealed WHERE name = :name")


@dataclass(frozen=True, slots=True)
class SecretRecord:
    """What may be known of a secret: everything but its value."""

    name: str
    key_id: str
    created_at: dt.datetime
    updated_at: dt.datetime
    updated_by: str

    def to_wire(self) -> dict[str, Any]:
        """The record as JSON for the API."""
        return {
            "name": self.name,
            "keyId": self.key_id,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
            "updatedBy": self.updated_by,
        }


class Vault:
    """The secrets in the database: a `SecretStore`, and what administrators do with it.

    The keys are read when they are first needed: who keeps no secret here needs no key.
    """

    def __init__(self, context: PluginContext, read_keys: Callable[[], Keyring], kept: Kept) -> None:
        self._context = context
        self._read_keys = read_keys
        self._kept = kept

    @cached_property
    def _keys(self) -> Keyring:
        return self._read_keys()

    async def set(self, name: str, value: str, *, by: str) -> SecretRecord:
        """Store a value under a name, in place of the one before it."""
        sealed = self._keys.seal(name, value)
        async with self._context.sessions.begin() as session:
            values = {"name": name, "key_id": sealed.key_id, "sealed": sealed.data, "by": by}
            row = (await session.execute(_SET, values)).one()
            fact = SecretChanged(name=name, change=SecretChange.SET)
            await self._context.emit_hook(secret_changed, fact, session=session, actor=by)
        return SecretRecord(*row)

    async def delete(self, name: str, *, by: str) -> bool:
        """Forget a secret. False when there is none of that name."""
        async with self._context.sessions.begin() as session:
            if (await session.execute(_DELETE, {"name": name})).one_or_none() is None:
                return False
            fact = SecretChanged(name=name, change=SecretChange.DELETED)
            await self._context.emit_hook(secret_changed, fact, session=session, actor=by)
        return True

    async def has(self, name: str) -> bool:
        """Whether there is a secret of that name."""
        async with self._context.sessions() as session:
            return (await session.execute(_GET, {"names": [name]})).first() is not None

    async def one(self, name: str) -> SecretRecord | None:
        """What may be known of a secret; None if there is none of that name."""
        async with self._context.sessions() as session:
            row = (await session.execute(_ONE, {"name": name})).one_or_none()
        return None if row is None else SecretRecord(*row)

    async def lacking(self, names: Collection[str]) -> frozenset[str]:
        """Those of these names that no secret has here."""
        async with self._context.sessions() as session:
            there = await session.execute(_NAMES, {"names": list(names)})
            return frozenset(names) - set(there.scalars())

    async def count(self) -> int:
        """How many secrets there are."""
        async with self._context.sessions() as session:
            return int((await session.execute(_COUNT)).scalar_one())

    async def records(self, *, after: str = "", limit: int, words: str | None = None) -> list[SecretRecord]:
        """What may be known of each secret, by name, from after a name; of those with `words` in their names."""
        values = {"after": after, "limit": limit, "words": words}
        async with self._context.sessions() as session:
            return [SecretRecord(*row) for row in await session.execute(_LIST, values)]

    async def reseal(self) -> tuple[str, ...]:
        """Seal anew, with the current key, whatever was sealed with another; answers the names of what was.

        What plugins keep for themselves is sealed anew too, and has the plugin's name before its own. Raises
        `SecretError` when the key of one of them is not here, and then changes none.
        """
        async with self._context.sessions.begin() as session:
            rows = (await session.execute(_STALE, {"current": self._keys.current_id})).all()
            for row in rows:
                value = self._keys.open(row.name, Sealed(row.key_id, bytes(row.sealed)))
                sealed = self._keys.seal(row.name, value)
                await session.execute(
                    _RESEAL, {"name": row.name, "key_id": sealed.key_id, "sealed": sealed.data}
                )
            kept = await self._kept.reseal(session)
        return (*(row.name for row in rows), *kept)

    async def get(self, names: Collection[str]) -> Mapping[str, str]:
        """See `SecretStore`."""
        async with self._context.sessions() as session:
            rows = (await session.execute(_GET, {"names": list(names)})).all()
        return {row.name: self._keys.open(row.name, Sealed(row.key_id, bytes(row.sealed))) for row in rows}


class AllStores:
    """Implements `Secrets`: each store is asked for what those before it do not have, the vault last."""

    def __init__(self, context: PluginContext, vault: Vault) -> None:
        self._context = context
        self._vault = vault

    async def get(self, names: Collection[str]) -> Mapping[str, str]:
        """See `Secrets`."""
        found: dict[str, str] = {}
        if not names:
            return found
        for store in (*self._context.services.extensions(SecretStore), self._vault):
            if not (missing := set(names) - found.keys()):
                break
            answer = await store.get(missing)
            found.update({name: value for name, value in answer.items() if name in missing})
        if missing := set(names) - found.keys():
            raise MissingSecretsError(missing)
        return found
