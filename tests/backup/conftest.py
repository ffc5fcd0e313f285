"""The command line, and databases with what plugins keep in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql
from ringfence.plugins.discovery import discover
from ringfence.plugins.without_a_host import branches_of
from ringfence.testing import TestPostgres

from tests.cli.conftest import command, own_environment

__all__ = ["command", "own_environment"]

MakeDatabase = Callable[..., str]


@pytest.fixture
def make_database(postgres: TestPostgres) -> Iterator[MakeDatabase]:
    """Make a database of this release, or an empty one; they are dropped after the test."""
    made: list[str] = []

    def make(*, empty: bool = False) -> str:
        branches = [] if empty else branches_of(discover())
        made.append(asyncio.run(postgres.create(branches)))
        return made[-1]

    yield make
    for url in made:
        asyncio.run(postgres.drop(url))


def query(url: str, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Run a statement on a database."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        cursor = connection.execute(sql.SQL(statement), values or None)
        return cursor.fetchall() if cursor.description else []
