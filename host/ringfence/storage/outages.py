"""Which errors mean that the database is out of order for a while, and not that what was asked is wrong."""

from __future__ import annotations

import psycopg
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

_OUTAGES = {
    "25006": "it is read-only",
    "53100": "its disk is full",
    "53200": "it is out of memory",
    "53300": "it takes no more connections",
    "57014": "it takes too long",
    "57P01": "it is being stopped",
    "57P02": "it is being stopped",
    "57P03": "it is starting or stopping",
}
"""Conditions of the database that pass, by SQLSTATE (PostgreSQL, Appendix A)."""

_OUTAGE_CLASSES = {
    "08": "the connection to it fails",
    "53": "it lacks a resource",
    "58": "its system fails",
}


def outage(error: Exception) -> str | None:
    """What is out of order with the database, if that is why `error` was raised; None if it is something else.

    What was asked is not at fault then, and may be asked again later.
    """
    if isinstance(error, PoolTimeoutError):
        return "all connections to it are in use"
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(error, SQLAlchemyError | psycopg.Error):
        return None
    state = getattr(cause, "sqlstate", None)
    if state is not None:
        return _OUTAGES.get(state) or _OUTAGE_CLASSES.get(state[:2])
    lost = isinstance(error, DisconnectionError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )
    return "it cannot be reached" if lost or isinstance(cause, psycopg.OperationalError) else None
