"""How a database is, for whoever helps: numbers and names of tables and hooks, and no row."""

from __future__ import annotations

from typing import Any

import psycopg

from ringfence.backup.contents import Connection, revisions
from ringfence.backup.place import to_read
from ringfence.settings import HostSettings

_SIZES = """
    SELECT relname, greatest(reltuples, 0)::bigint, pg_total_relation_size(oid) FROM pg_class
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 3 DESC
"""
_KINDS = """
    SELECT hook, count(*), max(position), max(occurred_at) FROM events
     WHERE position > (SELECT coalesce(max(position), 0) - 10000 FROM events) GROUP BY 1 ORDER BY 2 DESC LIMIT 200
"""
_INSTANCES = "SELECT instance, release, cursor, seen_at FROM event_instances ORDER BY seen_at DESC LIMIT 100"
_JOBS = "SELECT kind, status, count(*) FROM jobs GROUP BY 1, 2 ORDER BY 1, 2 LIMIT 200"
_GROUPS = "SELECT plugin, worker_group, position FROM event_cursors ORDER BY 1, 2 LIMIT 200"


def read(settings: HostSettings) -> dict[str, Any]:
    """How it is now; what it does not have is left out, as with older releases. Raises `BackupError`."""
    with to_read(settings) as place, place.connected() as connection:
        server = connection.execute("SELECT version(), pg_database_size(current_database())").fetchone()
        return {
            "server": None if server is None else server[0],
            "bytes": None if server is None else server[1],
            "extensions": _rows(connection, "SELECT extname, extversion FROM pg_extension ORDER BY 1"),
            "revisions": {name: list(at) for name, at in revisions(connection).items()},
            "tables": _rows(connection, _SIZES),
            "recentEvents": _rows(connection, _KINDS),
            "instances": _rows(connection, _INSTANCES),
            "jobs": _rows(connection, _JOBS),
            "workerGroups": _rows(connection, _GROUPS),
        }


def _rows(connection: Connection, statement: str) -> list[list[Any]] | None:
    try:
        return [list(row) for row in connection.execute(statement.encode())]
    except psycopg.errors.UndefinedTable:
        return None
    except psycopg.errors.UndefinedColumn:
        return None
