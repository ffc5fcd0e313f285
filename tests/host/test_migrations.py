"""Migrations: a branch per plugin, one instance at a time, and nothing half done."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psycopg
import pytest
from ringfence.plugins.registry import PluginError
from ringfence.storage.errors import DatabaseError
from ringfence.storage.migrating import HOST_MIGRATIONS, MigrationBranch, behind, migrate
from ringfence.testing import RunHost, TestPostgres, eventually

from tests.host.plugins import MadePlugin

WriteBranch = Callable[..., str]


@pytest.fixture
async def empty(postgres: TestPostgres) -> AsyncIterator[str]:
    """The URL of a database in which nothing has been migrated."""
    url = await postgres.create([])
    yield url
    await postgres.drop(url)


@pytest.fixture
def write_branch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteBranch:
    """Write an importable package of revisions, each given as (revision, what it runs)."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(package: str, *revisions: tuple[str, str]) -> str:
        directory = tmp_path / package
        directory.mkdir(exist_ok=True)
        (directory / "__init__.py").write_text("")
        down = None
        for revision, sql in revisions:
            (directory / f"{revision}.py").write_text(
                f"from alembic import op\nrevision = {revision!r}\ndown_revision = {down!r}\n"
                f"def upgrade():\n    op.execute({sql!r})\n"
            )
            down = revision
        return package

    return write


async def query(url: str, statement: str) -> list[tuple[object, ...]]:
    connection = await psycopg.AsyncConnection.connect(url.replace("+psycopg", ""))
    async with connection:
        return await (await connection.execute(statement)).fetchall()


def with_branch(id: str, package: str, **more: object) -> MadePlugin:
    return MadePlugin(id, register=lambda registry: registry.migrations(package), **more)  # type: ignore[arg-type]


async def test_a_strangers_plugin_brings_its_own_branch(
    empty: str, run_host: RunHost, write_branch: WriteBranch
) -> None:
    package = write_branch("stranger_a", ("0001", "CREATE TABLE notes_notes (id int)"))
    await run_host(database_url=empty, plugins=[with_branch("notes", package)])
    assert await query(empty, "SELECT * FROM notes_notes") == []
    assert await query(empty, "SELECT version_num FROM alembic_version_notes") == [("0001",)]
    assert await query(empty, "SELECT version_num FROM alembic_version_host") != []


async def test_a_later_release_takes_up_where_the_earlier_one_stopped(
    empty: str, run_host: RunHost, write_branch: WriteBranch
) -> None:
    first = ("0001", "CREATE TABLE notes_notes (id int)")
    package = write_branch("stranger_b", first)
    await run_host(database_url=empty, plugins=[with_branch("notes", package)])
    write_branch("stranger_b", first, ("0002", "ALTER TABLE notes_notes ADD COLUMN body text"))
    await run_host(database_url=empty, plugins=[with_branch("notes", package)])
    assert await query(empty, "SELECT body FROM notes_notes") == []


async def test_a_plugin_that_was_taken_away_does_not_stop_the_rest_and_keeps_its_data(
    empty: str, run_host: RunHost, write_branch: WriteBranch
) -> None:
    gone = write_branch("stranger_c", ("0001", "CREATE TABLE gone_things AS SELECT 7 AS id"))
    await run_host(database_url=empty, plugins=[with_branch("gone", gone), MadePlugin("stays")])
    stays = write_branch("stranger_d", ("0001", "CREATE TABLE stays_things (id int)"))
    host = await run_host(database_url=empty, plugins=[with_branch("stays", stays)])
    assert [one.phase for one in host.plugins] == ["ready"]
    assert await query(empty, "SELECT id FROM gone_things") == [(7,)]
    back = await run_host(database_url=empty, plugins=[with_branch("gone", gone)])
    assert [one.phase for one in back.plugins] == ["ready"]


async def test_branches_run_after_those_of_the_plugins_that_they_require(
    empty: str, run_host: RunHost, write_branch: WriteBranch
) -> None:
    base = write_branch("stranger_e", ("0001", "CREATE TABLE z_things (id int PRIMARY KEY)"))
    top = write_branch("stranger_f", ("0001", "CREATE TABLE a_things (id int REFERENCES z_things)"))
    await run_host(
        database_url=empty, plugins=[with_branch("a", top, requires=("z",)), with_branch("z", base)]
    )
    assert await query(empty, "SELECT * FROM a_things") == []


BAD = [("0001", "CREATE TABLE bad_things (id int)"), ("0002", "SELECT 1/0")]


async def test_a_branch_that_fails_is_undone_and_named_and_stops_the_start(
    empty: str, run_host: RunHost, write_branch: WriteBranch
) -> None:
    package = write_branch("stranger_g", *BAD)
    with pytest.raises(PluginError, match=r"plugin bad failed in migrations: .*stranger_g.*division by zero"):
        await run_host(database_url=empty, plugins=[with_branch("bad", package)])
    assert await query(empty, "SELECT to_regclass('bad_things')") == [(None,)]
    assert await query(empty, "SELECT to_regclass('events')") != [(None,)]


async def test_an_optional_plugin_whose_branch_fails_is_left_out(
    empty: str, run_host: RunHost, write_branch: WriteBranch
) -> None:
    package = write_branch("stranger_h", *BAD)
    host = await run_host(
        may_fail=True,
        database_url=empty,
        plugins=[
            with_branch("bad", package, optional=True),
            MadePlugin("child", requires=("bad",)),
            MadePlugin("good"),
        ],
    )
    assert {one.info.id: one.phase for one in host.plugins if one.alive} == {"good": "ready"}


@pytest.mark.parametrize("package", ["no_such_package", "no_such_package.migrations", "json.decoder"])
async def test_a_package_of_migrations_that_is_not_there_is_named(run_host: RunHost, package: str) -> None:
    with pytest.raises(PluginError, match=f"plugin a failed in migrations: .*{package}"):
        await run_host(plugins=[with_branch("a", package)])


async def test_a_database_that_does_not_answer_is_told_without_its_password() -> None:
    with pytest.raises(DatabaseError) as failed:
        await migrate("postgresql+psycopg://me:hush@127.0.0.1:1/x", [])
    assert "RINGFENCE_DATABASE_URL" in str(failed.value)
    assert "hush" not in str(failed.value)


async def test_whoever_migrates_waits_for_the_one_who_is_at_it(empty: str) -> None:
    lock = "hashtextextended('ringfence.migrations', 0)"
    first = await psycopg.AsyncConnection.connect(empty.replace("+psycopg", ""), autocommit=True)
    async with first:
        await first.execute(f"SELECT pg_advisory_lock({lock})".encode())
        second = asyncio.create_task(migrate(empty, [MigrationBranch("host", HOST_MIGRATIONS)]))

        async def waits() -> bool:
            return (
                await query(empty, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") != []
            )

        await eventually(waits)
        assert await query(empty, "SELECT to_regclass('events')") == [(None,)]
        await first.execute(f"SELECT pg_advisory_unlock({lock})".encode())
        await second
    assert await query(empty, "SELECT count(*) FROM events") == [(0,)]


async def test_only_branches_that_have_something_to_do_are_behind(
    empty: str, write_branch: WriteBranch
) -> None:
    first = ("0001", "CREATE TABLE j_things (id int)")
    host, other = (
        MigrationBranch("host", HOST_MIGRATIONS),
        MigrationBranch("j", write_branch("stranger_j", first)),
    )
    unreadable = MigrationBranch("k", "no_such_package")
    assert await behind(empty, [host, other]) == {host, other}
    await migrate(empty, [host, other])
    assert await behind(empty, [host, other, unreadable]) == {unreadable}
    write_branch("stranger_j", first, ("0002", "ALTER TABLE j_things ADD COLUMN body text"))
    assert await behind(empty, [host, other]) == {other}
    await migrate(empty, [other])
    assert await behind(empty, [host, other]) == set()
    for change in (
        "UPDATE alembic_version_host SET version_num = 'of a newer release'",
        "COMMENT ON TABLE alembic_version_j IS 'Ringfence of an older release'",
    ):
        async with await psycopg.AsyncConnection.connect(empty.replace("+psycopg", "")) as connection:
            await connection.execute(change.encode())
    assert await behind(empty, [host, other]) == {host, other}


async def test_whoever_looks_waits_for_the_one_who_migrates(empty: str) -> None:
    host = MigrationBranch("host", HOST_MIGRATIONS)
    async with await psycopg.AsyncConnection.connect(empty.replace("+psycopg", "")) as migrating:
        await migrating.execute("SELECT pg_advisory_xact_lock(hashtextextended('ringfence.migrations', 0))")
        looking = asyncio.create_task(behind(empty, [host]))

        async def waits() -> bool:
            return (
                await query(empty, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") != []
            )

        await eventually(waits)
        assert not looking.done()
    assert await looking == {host}


START = """
import asyncio, sys
from pathlib import Path
from ringfence.host import Host
from ringfence.settings import HostSettings

async def main():
    sys.stdin.readline()
    async with Host(HostSettings(database_url=sys.argv[1], data_dir=Path(sys.argv[2])), plugins=[]):
        print("ready", flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
async def test_processes_that_start_together_on_an_empty_database_take_turns(
    empty: str, tmp_path: Path
) -> None:
    starting = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            START,
            empty,
            str(tmp_path / f"instance-{number}"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for number in range(3)
    ]
    ended = await asyncio.gather(*(one.communicate(b"go\n") for one in starting))
    for process, (out, err) in zip(starting, ended, strict=True):
        assert process.returncode == 0, err.decode()
        assert b"ready" in out
    assert await query(empty, "SELECT count(*) FROM api_tokens") == [(3,)]


async def test_threads_of_one_process_may_migrate_databases_at_the_same_time(
    postgres: TestPostgres, write_branch: WriteBranch
) -> None:
    package = write_branch("stranger_i", ("0001", "CREATE TABLE i_things (id int)"))
    urls = [await postgres.create([]) for _ in range(4)]
    await asyncio.gather(*(migrate(url, [MigrationBranch("i", package)]) for url in urls))
    for url in urls:
        assert await query(url, "SELECT * FROM i_things") == []
        await postgres.drop(url)
