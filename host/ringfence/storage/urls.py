"""The two other ways to write the address of a database, beside SQLAlchemy's."""

from __future__ import annotations

from sqlalchemy.engine import make_url


def libpq_url(url: str) -> str:
    """As psycopg and PostgreSQL's own programs want it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def shown_url(url: str) -> str:
    """As people may see it: without its password."""
    return make_url(url).render_as_string(hide_password=True)
