"""Whether a database can be worked on: it answers, is our own while we are connected, and takes any text."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psycopg
import structlog
from sqlalchemy.exc import DBAPIError

from ringfence.storage.errors import DatabaseError
from ringfence.storage.outages import outage
from ringfence.storage.urls import libpq_url, shown_url

WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.2, 5.0
"""How long it takes until a database that does not answer is asked again: doubled each time, up to the longest."""
ENCODING = "UTF8"
"""What scripts print and people write may be in any language, and no other encoding of PostgreSQL takes it all."""

_Connection = psycopg.Connection[tuple[Any, ...]]
_log = structlog.get_logger("ringfence.database")


async def wait_until_usable(url: str, *, seconds: float) -> None:
    """Wait until the database takes connections, for at most `seconds`, and say in the log that it is waited for.

    A database that starts later than its hosts is no fault of anybody's. What waiting cannot mend (a wrong password, a
    database that does not exist) is raised at once.

    Raises `DatabaseError`, which says what is wrong; also if its encoding is not UTF8, or if what answers is a pooler
    that shares connections.
    """
    deadline = time.monotonic() + seconds
    pause = WAIT_SECONDS
    while True:
        try:
            await asyncio.to_thread(_check_usable, url)
        except psycopg.Error as error:
            left = deadline - time.monotonic()
            if left <= 0 or not _may_pass(error):
                raise unusable(url, error) from error
            _log.warning("waiting for the database", reason=_words(error), seconds_left=round(left, 1))
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, LONGEST_WAIT_SECONDS)
        else:
            return


def unusable(url: str, error: DBAPIError | psycopg.Error) -> DatabaseError:
    """That the database cannot be used, with the database's own words for why."""
    return DatabaseError(
        f"cannot use the database at {shown_url(url)}: {_words(error)}; check RINGFENCE_DATABASE_URL"
    )


def check_encoding(connection: _Connection, url: str) -> None:
    """Raise `DatabaseError` if the database, or the connection to it, does not take all text."""
    server = connection.info.parameter_status("server_encoding")
    client = connection.info.parameter_status("client_encoding")
    if server != ENCODING:
        raise DatabaseError(
            f"the database at {shown_url(url)} has the encoding {server}, and Ringfence needs {ENCODING}: make a "
            f"database with CREATE DATABASE … TEMPLATE template0 ENCODING '{ENCODING}' LOCALE 'C.UTF-8', and name it "
            "in RINGFENCE_DATABASE_URL"
        )
    if client != ENCODING:
        raise DatabaseError(
            f"connections to the database at {shown_url(url)} have client_encoding {client}, and Ringfence needs "
            f"{ENCODING}: take client_encoding off RINGFENCE_DATABASE_URL, the variable PGCLIENTENCODING, the role "
            "(ALTER ROLE … RESET client_encoding) or the database (ALTER DATABASE … RESET client_encoding)"
        )


def _may_pass(error: psycopg.Error) -> bool:
    """Whether the database may be usable later. libpq tells most failures to connect without a state."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    refused = any(
        word in str(error) for word in ("authentication failed", "does not exist", "no pg_hba.conf")
    )
    return outage(error) is not None if error.sqlstate is not None else not refused


def _words(error: DBAPIError | psycopg.Error) -> str:
    return " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())


def _check_usable(url: str) -> None:
    """Connect, and see that the connection takes all text and is our own for as long as we have it.

    A pooler that shares connections among transactions (PgBouncer's pool_mode=transaction) loses locks and LISTEN,
    without an error. There, a second connection gets the server process of the first one when that has no transaction
    open, or the first one gets another. Not covered: a pooler that others keep so busy that neither happens.
    """
    with psycopg.connect(libpq_url(url)) as ours, psycopg.connect(libpq_url(url)) as other:
        check_encoding(ours, url)
        before = _server_process(ours)
        ours.commit()
        meanwhile = _server_process(other)
        shared = meanwhile == before or _server_process(ours) != before
    if shared:
        raise DatabaseError(
            f"the database at {shown_url(url)} is behind a pooler that shares connections among transactions, which "
            "loses locks and notifications: give RINGFENCE_DATABASE_URL the address of PostgreSQL itself, or set the "
            "pooler to pool_mode=session"
        )


def _server_process(connection: _Connection) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert row is not None
    return int(row[0])
