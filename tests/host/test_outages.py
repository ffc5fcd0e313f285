"""A database that is away, cannot be written, or is not what it should be: told in a sentence, and waited for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql
from ringfence.storage.errors import DatabaseError
from ringfence.storage.migrating import HOST_MIGRATIONS, MigrationBranch, migrate
from ringfence.storage.usable import wait_until_usable
from ringfence.testing import RunHost, TestPostgres, client, eventually, served
from structlog.testing import capture_logs

from tests.eventlog.stalling import SOCKET
from tests.host.plugins import MadePlugin
from tests.host.pooler import transaction_pooler
from tests.host.test_methods import serve

HOST = MigrationBranch("host", HOST_MIGRATIONS)


async def execute(url: str, statement: sql.SQL | sql.Composed) -> None:
    async with await psycopg.AsyncConnection.connect(
        url.replace("+psycopg", ""), autocommit=True
    ) as connection:
        await connection.execute(statement)


async def make_read_only(url: str) -> None:
    """As a fail-over leaves it for whoever still talks to the old primary: open connections end, new ones only read."""
    name = sql.Identifier(url.partition("@/")[2].partition("?")[0])
    await execute(url, sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    await execute(
        url,
        sql.SQL(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ),
    )


async def own_database(postgres: TestPostgres) -> str:
    return await postgres.create([HOST])


async def test_what_a_read_only_database_cannot_do_is_answered_503_and_logged_once(
    run_host: RunHost, postgres: TestPostgres
) -> None:
    url = await own_database(postgres)
    host = await run_host(plugins=[], database_url=url)
    async with client(host) as http:
        await make_read_only(url)
        with capture_logs() as logs:
            answers = [
                await http.post("/api/host/tokens", json={"name": f"t{i}", "rules": ["host.plugin.read"]})
                for i in range(4)
            ]
    assert [answer.status_code for answer in answers] == [503] * 4
    assert int(answers[0].headers["retry-after"]) > 0
    assert "read-only" in answers[0].json()["detail"]
    told = [entry for entry in logs if "cannot serve requests" in str(entry["event"])]
    assert len(told) == 1, logs
    assert "exc_info" not in told[0]


async def test_a_host_whose_database_cannot_be_written_is_not_ready(
    run_host: RunHost, postgres: TestPostgres
) -> None:
    url = await own_database(postgres)
    host = await run_host(plugins=[], database_url=url)
    async with served(host) as address, httpx.AsyncClient(base_url=address) as http:

        async def ready() -> bool:
            return (await http.get("/readyz")).status_code == 200

        async def says_so() -> bool:
            answer = await http.get("/readyz")
            return answer.status_code == 503 and "read-only" in answer.json()["database"]

        await eventually(ready)
        await make_read_only(url)
        await eventually(says_so)


async def test_an_unforeseen_failure_is_logged_once_with_its_traceback(run_host: RunHost) -> None:
    host = await run_host(plugins=[MadePlugin("shop", init=serve)])
    async with served(host) as address, httpx.AsyncClient(base_url=address) as http:
        with capture_logs() as logs:
            answer = await http.get("/api/shop/broken")
    assert answer.status_code == 500
    assert "swordfish" not in answer.text
    assert len([entry for entry in logs if entry.get("exc_info")]) == 1


async def test_a_start_waits_for_a_database_that_comes_later(postgres: TestPostgres, tmp_path: Path) -> None:
    url = await own_database(postgres)
    there = postgres.server.url_of("x").partition("host=")[2]
    late = url.replace(there, str(tmp_path))
    with capture_logs() as logs:
        waiting = asyncio.create_task(wait_until_usable(late, seconds=60))

        async def told() -> bool:
            return any(entry["event"] == "waiting for the database" for entry in logs)

        await eventually(told)
        (tmp_path / SOCKET).symlink_to(Path(there, SOCKET))
        await waiting


async def test_a_database_that_does_not_come_is_told_when_the_time_is_up(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match=r"cannot use the database at .*check RINGFENCE_DATABASE_URL"):
        await wait_until_usable(f"postgresql+psycopg://x:S3cret@/d?host={tmp_path}", seconds=0)


async def test_what_waiting_cannot_mend_is_told_at_once(postgres: TestPostgres) -> None:
    with capture_logs() as logs, pytest.raises(DatabaseError, match="does not exist"):
        await wait_until_usable(postgres.server.url_of("nowhere"), seconds=600)
    assert not logs


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_a_database_that_does_not_take_all_text_is_refused_by_its_encoding(
    encoding: str, run_host: RunHost, postgres: TestPostgres
) -> None:
    url = postgres.server.url_of(f"of_{encoding.lower()}")
    make = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C'")
    await execute(
        postgres.server.url_of("postgres"),
        make.format(sql.Identifier(f"of_{encoding.lower()}"), sql.Literal(encoding)),
    )
    with pytest.raises(DatabaseError, match=rf"has the encoding {encoding}, .*ENCODING 'UTF8'"):
        await run_host(plugins=[], database_url=url)
    await postgres.drop(url)


async def test_a_connection_that_does_not_take_all_text_is_refused_by_its_encoding(
    postgres: TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await own_database(postgres)
    with pytest.raises(DatabaseError, match=r"client_encoding LATIN1, .*take client_encoding off"):
        await wait_until_usable(f"{url}&client_encoding=latin1", seconds=600)
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
    with pytest.raises(DatabaseError, match=r"client_encoding SQL_ASCII, .*PGCLIENTENCODING"):
        await wait_until_usable(url, seconds=600)


async def test_an_address_that_is_no_libpqs_is_told_in_a_sentence(postgres: TestPostgres) -> None:
    with pytest.raises(DatabaseError, match=r'invalid .*"colour".*check RINGFENCE_DATABASE_URL'):
        await wait_until_usable(f"{postgres.server.url_of('postgres')}&colour=red", seconds=600)


async def test_a_pooler_that_shares_connections_is_refused_by_name(postgres: TestPostgres) -> None:
    url = await own_database(postgres)
    await wait_until_usable(url, seconds=0)
    async with transaction_pooler(url) as pooler:
        with pytest.raises(DatabaseError, match=r"pooler.*pool_mode=session"):
            await asyncio.wait_for(wait_until_usable(pooler.url, seconds=0), 30)


async def test_an_older_release_says_which_one_the_database_needs(postgres: TestPostgres) -> None:
    url = await own_database(postgres)
    await execute(url, sql.SQL("UPDATE alembic_version_host SET version_num = 'host_9999_later'"))
    await execute(url, sql.SQL("COMMENT ON TABLE alembic_version_host IS 'Ringfence 9.9.9'"))
    with pytest.raises(
        DatabaseError, match=r"host_9999_later of host, .*start Ringfence 9\.9\.9, or a newer one"
    ):
        await migrate(url, [HOST])


async def test_migrating_notes_the_release_for_older_ones(postgres: TestPostgres) -> None:
    url = await postgres.create([])
    await migrate(url, [HOST])
    async with await psycopg.AsyncConnection.connect(url.replace("+psycopg", "")) as connection:
        row = await (
            await connection.execute("SELECT obj_description('alembic_version_host'::regclass)")
        ).fetchone()
    assert row is not None
    assert str(row[0]).startswith("Ringfence ")
