"""Backups of the database, and what must go along with it; see `ringfence backup` and `ringfence restore`."""

from ringfence.backup.keys import KeysOutside

__all__ = ["KeysOutside"]
