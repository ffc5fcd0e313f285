"""What is in a database: read in whatever transaction the connection is in, also of older releases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import psycopg
from psycopg import sql

from ringfence.backup.manifest import Contents, LogPosition

Connection = psycopg.Connection[tuple[Any, ...]]
VERSION_TABLE = "alembic_version_"
ASIDE = "ringfence_replaced_"
"""What the names of schemas begin with that a restore has set aside; they are not looked into."""
OUR_SCHEMAS = r"n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'"
NOT_OF_EXTENSIONS = "NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = {} AND d.deptype = 'e')"

_TABLES = sql.SQL(f"""
    SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND NOT starts_with(n.nspname, '{ASIDE}')
       AND {OUR_SCHEMAS} AND {NOT_OF_EXTENSIONS.format("c.oid")} ORDER BY 1, 2
""")  # noqa: S608
_OBJECTS = sql.SQL(f"""
    SELECT (SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
             WHERE {OUR_SCHEMAS} AND {NOT_OF_EXTENSIONS.format("c.oid")})
         + (SELECT count(*) FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
             WHERE {OUR_SCHEMAS} AND {NOT_OF_EXTENSIONS.format("p.oid")})
         + (SELECT count(*) FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
             WHERE t.typtype IN ('d', 'e', 'r') AND {OUR_SCHEMAS} AND {NOT_OF_EXTENSIONS.format("t.oid")})
""")  # noqa: S608


def is_empty(connection: Connection) -> bool:
    """Whether there is nothing in the database: no table, function or type but those of extensions."""
    return _number(connection, _OBJECTS) == 0


def contents(connection: Connection) -> Contents:
    """What is in the database. Each row is counted."""
    tables = [(str(schema), str(name)) for schema, name in connection.execute(_TABLES)]
    names = {name for _, name in tables}
    rows = {
        f"{schema}.{name}": _number(
            connection, sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, name))
        )
        for schema, name in tables
    }
    return Contents(
        server=connection.info.server_version,
        database_bytes=_number(connection, sql.SQL("SELECT pg_database_size(current_database())")),
        extensions={
            str(name): str(version)
            for name, version in connection.execute("SELECT extname, extversion FROM pg_extension ORDER BY 1")
        },
        revisions=revisions(connection),
        event_log=_position(connection) if "events" in names else None,
        streams=_streams(connection) if {"events", "plugin_configs"} <= names else {},
        rows=rows,
    )


def revisions(connection: Connection) -> Mapping[str, tuple[str, ...]]:
    """How far the migrations of the host and of each plugin have come, by the names of their tables."""
    found = {}
    for schema, name in connection.execute(_TABLES).fetchall():
        if str(name).startswith(VERSION_TABLE):
            table = sql.SQL("SELECT version_num FROM {} ORDER BY 1").format(sql.Identifier(schema, name))
            # Ids of plugins are words with hyphens between them: see `MigrationBranch.version_table`.
            label = str(name).removeprefix(VERSION_TABLE).replace("_", "-")
            found[label] = tuple(str(version) for (version,) in connection.execute(table))
    return found


def _position(connection: Connection) -> LogPosition | None:
    row = connection.execute(
        "SELECT position, occurred_at, encode(hash, 'hex') FROM events ORDER BY position DESC LIMIT 1"
    ).fetchone()
    return None if row is None else LogPosition(position=row[0], occurred_at=row[1], hash=row[2])


def _streams(connection: Connection) -> dict[str, int]:
    return {
        str(name): int(version)
        for name, version in connection.execute("""
            SELECT config.key, max(event.version) FROM plugin_configs AS config
              JOIN events AS event ON event.stream = config.key GROUP BY 1 ORDER BY 1
        """)
    }


def _number(connection: Connection, statement: sql.SQL | sql.Composed) -> int:
    return int(cast("tuple[Any, ...]", connection.execute(statement).fetchone())[0])
