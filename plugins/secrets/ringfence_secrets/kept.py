"""Values that plugins keep for themselves: sealed with the same keys, in a table that no route and no script reads."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from ringfence import PluginContext
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_secrets.keyring import Keyring, Sealed
from ringfence_secrets.service import SecretError

_KEEP = text("""
    INSERT INTO secrets_kept (plugin, name, key_id, sealed) VALUES (:plugin, :name, :key_id, :sealed)
    ON CONFLICT (plugin, name) DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed, updated_at = now()
""")
_FORGET = text("DELETE FROM secrets_kept WHERE plugin = :plugin AND name = :name")
_GET = text("SELECT key_id, sealed FROM secrets_kept WHERE plugin = :plugin AND name = :name")
_STALE = text("""
    SELECT plugin, name, key_id, sealed FROM secrets_kept WHERE key_id <> :current ORDER BY plugin, name FOR UPDATE
""")
_RESEAL = text("""
    UPDATE secrets_kept SET key_id = :key_id, sealed = :sealed WHERE plugin = :plugin AND name = :name
""")


class Kept:
    """Implements `KeptValues`."""

    def __init__(self, context: PluginContext, read_keys: Callable[[], Keyring]) -> None:
        self._context = context
        self._read_keys = read_keys

    @cached_property
    def _keys(self) -> Keyring:
        return self._read_keys()

    async def keep(self, session: AsyncSession, plugin: str, name: str, value: str) -> None:
        """See `KeptValues`."""
        sealed = self._keys.seal(_full_name(plugin, name), value)
        values = {"plugin": plugin, "name": name, "key_id": sealed.key_id, "sealed": sealed.data}
        await session.execute(_KEEP, values)

    async def forget(self, session: AsyncSession, plugin: str, name: str) -> None:
        """See `KeptValues`."""
        await session.execute(_FORGET, {"plugin": plugin, "name": name})

    async def value(self, plugin: str, name: str) -> str:
        """See `KeptValues`."""
        async with self._context.sessions() as session:
            row = (await session.execute(_GET, {"plugin": plugin, "name": name})).one_or_none()
        if row is None:
            raise SecretError(f"{plugin} keeps no value under the name {name}: set it again there")
        return self._keys.open(_full_name(plugin, name), Sealed(row.key_id, bytes(row.sealed)))

    async def reseal(self, session: AsyncSession) -> tuple[str, ...]:
        """Seal anew, with the current key, whatever was sealed with another; answers what that was.

        Raises `SecretError` when the key of one of them is not here.
        """
        resealed = []
        for row in (await session.execute(_STALE, {"current": self._keys.current_id})).all():
            name = _full_name(row.plugin, row.name)
            sealed = self._keys.seal(name, self._keys.open(name, Sealed(row.key_id, bytes(row.sealed))))
            values = {"plugin": row.plugin, "name": row.name, "key_id": sealed.key_id, "sealed": sealed.data}
            await session.execute(_RESEAL, values)
            resealed.append(name)
        return tuple(resealed)


def _full_name(plugin: str, name: str) -> str:
    """What the value is bound to. No secret has such a name, so the one cannot be given out in place of the other."""
    return f"{plugin}/{name}"
