"""The keys of secrets as backups see them: which are needed, which are here, and what they open.

It reads the tables by itself, for no host runs when a backup is made or restored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection, text

from ringfence_secrets.keyring import FILE, Key, Keyring, Sealed, add_to_file, keys_here
from ringfence_secrets.service import SecretError

_TABLES = {
    "secrets_secrets": "SELECT name, key_id, sealed FROM secrets_secrets",
    "secrets_kept": "SELECT plugin || '/' || name AS name, key_id, sealed FROM secrets_kept",
}


class SecretsKeys:
    """Implements `KeysOutside` over the setting and the file of keys."""

    def __init__(self, variable: str | None, directory: Path) -> None:
        self._variable = variable
        self._directory = directory

    def needed(self, connection: Connection) -> Mapping[str, int]:
        """See `KeysOutside`."""
        counted: dict[str, int] = {}
        for _, sealed in _rows(connection):
            counted[sealed.key_id] = counted.get(sealed.key_id, 0) + 1
        return counted

    def here(self) -> Mapping[str, str]:
        """See `KeysOutside`."""
        try:
            return {key.id: key.text for key in self._keys()}
        except SecretError as error:
            raise ValueError(str(error)) from error

    def unreadable(self, connection: Connection) -> Sequence[str]:
        """See `KeysOutside`."""
        keys = self._keys()
        return [name for name, sealed in _rows(connection) if not _opens(keys, name, sealed)]

    def add(self, keys: Mapping[str, str]) -> str:
        """See `KeysOutside`. They come behind those that are there, so that those go on sealing."""
        if self._variable:
            raise ValueError("RINGFENCE_SECRETS_KEY is set: add the keys of the backup to it")
        try:
            add_to_file(self._directory, keys.values())
        except SecretError as error:
            raise ValueError(str(error)) from error
        return str(self._directory / FILE)

    def _keys(self) -> Sequence[Key]:
        return keys_here(self._variable, self._directory)


def _rows(connection: Connection) -> Iterator[tuple[str, Sealed]]:
    there = text("SELECT to_regclass(:table) IS NOT NULL")
    for table, statement in _TABLES.items():
        if connection.execute(there, {"table": table}).scalar_one():
            for row in connection.execute(text(statement)):
                yield row.name, Sealed(row.key_id, bytes(row.sealed))


def _opens(keys: Sequence[Key], name: str, sealed: Sealed) -> bool:
    try:
        Keyring(keys).open(name, sealed)
    except SecretError:
        return False
    return True
