"""What can go wrong with the database, told to whoever starts a host or runs a command."""

from __future__ import annotations


class DatabaseError(RuntimeError):
    """The database cannot be reached or migrated; the message says which and what to do."""


class MigrationError(DatabaseError):
    """The migrations of one branch fail, and were undone; the database itself answers."""
