"""Keys that are not in the database, and without which some of its rows cannot be read.

A plugin that has such rows answers the hook `keys` with an object like `KeysOutside`. Keys are told by fingerprints,
which say which key it is and nothing about what it is. They leave the machine only in a backup that was asked for with
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sqlalchemy import Connection


class KeysOutside(Protocol):
    """The keys of one plugin's rows, asked where no host runs; its tables may be of an older release, or absent."""

    def needed(self, connection: Connection) -> Mapping[str, int]:
        """How many rows need which key, by its fingerprint."""
        ...

    def here(self) -> Mapping[str, str]:
        """The keys that this machine has, as texts by their fingerprints. None is made. Raises `ValueError`."""
        ...

    def unreadable(self, connection: Connection) -> Sequence[str]:
        """The names of rows that cannot be read with the keys that are here."""
        ...

    def add(self, keys: Mapping[str, str]) -> str:
        """Keep these keys on this machine, beside those that it has; says where. Raises `ValueError` or `OSError`."""
        ...
