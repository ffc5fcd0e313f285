"""`ringfence backup` and `ringfence restore` on real databases, with PostgreSQL's own programs."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from ringfence.backup import programs
from ringfence.testing import TestPostgres
from ringfence_secrets.keyring import Key, Keyring
from sqlalchemy.engine import make_url

from tests.backup.conftest import MakeDatabase, query
from tests.cli.conftest import Command, Outcome

SECRET = "the value of a secret"
KEY = Key(b"k" * 32)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGFENCE_SECRETS_KEY", KEY.text)


On = Callable[..., Outcome]


@pytest.fixture
def on(command: Command, monkeypatch: pytest.MonkeyPatch) -> On:
    """Run a command on a database."""

    def run(url: str, *arguments: str) -> Outcome:
        monkeypatch.setenv("RINGFENCE_DATABASE_URL", url.replace("+psycopg", ""))
        return command(*arguments)

    return run


def fill(url: str, events: int = 3) -> None:
    """Keep some events, one setting with revisions, and a secret."""
    for n in range(events):
        query(
            url,
            "SELECT ringfence_append_event('sandbox-policy', 'h', 'p', jsonb_build_object('n', %s::int), NULL, NULL, "
            "NULL, gen_random_uuid(), false)",
            n,
        )
    query(url, "INSERT INTO plugin_configs VALUES ('p', 'sandbox-policy', 1, '{}', now(), NULL)")
    sealed = Keyring([KEY]).seal("S", SECRET)
    query(
        url,
        "INSERT INTO secrets_secrets (name, key_id, sealed, updated_by) VALUES ('S', %s, %s, 'ann')",
        sealed.key_id,
        sealed.data,
    )


def state(url: str) -> object:
    return (
        query(url, "SELECT position, stream, version, payload, encode(hash, 'hex') FROM events ORDER BY 1"),
        query(url, "SELECT name, key_id, sealed FROM secrets_secrets"),
        query(url, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"),
        query(url, "SELECT version_num FROM alembic_version_host"),
    )


def test_what_was_backed_up_is_restored_with_its_history(
    on: On, make_database: MakeDatabase, tmp_path: Path
) -> None:
    source, target = make_database(), make_database(empty=True)
    fill(source)
    made = on(source, "backup", str(tmp_path), "--json")
    assert made.status == 0, made.stderr
    [file] = tmp_path.glob("*.ringfence-backup")
    assert made.json["file"] == str(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    contents = made.json["manifest"]["contents"]
    assert contents["streams"] == {"sandbox-policy": 3}
    assert (contents["eventLog"]["position"], contents["rows"]["public.events"]) == (3, 3)
    assert {"host", "secrets", "health-checks", "script-packages"} <= contents["revisions"].keys()
    assert made.json["manifest"]["keys"] == [
        {"plugin": "secrets", "fingerprint": KEY.id, "rows": 1, "included": False}
    ]
    assert SECRET.encode() not in file.read_bytes()
    assert KEY.text.encode() not in file.read_bytes()

    checked = on(target, "restore", "--check", str(file))
    assert (checked.status, query(target, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")) == (
        0,
        [(0,)],
    )
    restored = on(target, "restore", str(file))
    assert restored.status == 0, restored.stderr
    assert "Restored." in restored.stdout
    assert state(target) == state(source)
    # What is appended next stands on what was restored.
    appended = query(
        target,
        "SELECT r_position, r_version FROM ringfence_append_event('sandbox-policy', 'h', 'p', '{}', NULL, NULL, 3, "
        "gen_random_uuid(), false)",
    )
    assert appended == [(4, 4)]


def test_a_database_that_is_not_empty_is_replaced_only_when_that_was_asked_for_and_agreed_to(
    on: On, make_database: MakeDatabase, tmp_path: Path
) -> None:
    source, target = make_database(), make_database()
    fill(source)
    fill(target, events=5)
    query(target, "CREATE TABLE of_somebody_else AS SELECT 1 AS a")
    file = str(tmp_path / "b")
    assert on(source, "backup", file).status == 0
    before = state(target)

    refused = on(target, "restore", file)
    assert refused.status == 1
    assert "is not empty: rows of events 5" in refused.stderr
    assert "add --replace" in refused.stderr
    asked = on(target, "restore", file, "--replace")
    assert (asked.status, state(target)) == (1, before)
    assert "has to be confirmed" in asked.stderr

    replaced = on(target, "restore", file, "--replace", "--yes")
    assert replaced.status == 0, replaced.stderr
    assert "sandbox-policy goes back from revision 5 to 3" in replaced.stderr
    assert state(target) == state(source)
    assert query(target, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'ringfence%%'") == []


@pytest.mark.parametrize("kind", ["fails", "is stopped"])
def test_a_restore_that_does_not_succeed_leaves_what_was_there(
    kind: str,
    on: On,
    make_database: MakeDatabase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, full, empty = make_database(), make_database(), make_database(empty=True)
    fill(source)
    fill(full, events=5)
    file = str(tmp_path / "b")
    assert on(source, "backup", file).status == 0
    before = state(full)
    fed = programs.fed

    def then_fail(*arguments: object, **named: object) -> None:
        fed(*arguments, **named)  # type: ignore[arg-type]
        if kind == "is stopped":
            raise KeyboardInterrupt
        query(str(os.environ["RINGFENCE_DATABASE_URL"]), "DELETE FROM secrets_secrets")

    monkeypatch.setattr(programs, "fed", then_fail)
    status = 130 if kind == "is stopped" else 1
    assert on(full, "restore", file, "--replace", "--yes").status == status
    assert state(full) == before
    assert on(empty, "restore", file).status == status
    assert query(empty, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [(0,)]
    assert query(empty, "SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace") == [(0,)]


def test_a_name_that_ends_in_a_slash_is_that_of_a_directory(
    on: On, make_database: MakeDatabase, tmp_path: Path
) -> None:
    refused = on(make_database(empty=True), "backup", f"{tmp_path}/later/")
    assert (refused.status, f"there is no directory {tmp_path}/later/" in refused.stderr) == (1, True)
    assert not (tmp_path / "later").exists()


def test_a_database_that_does_not_take_all_text_is_refused_by_its_encoding(
    on: On, make_database: MakeDatabase, postgres: TestPostgres, tmp_path: Path
) -> None:
    source = make_database()
    file = str(tmp_path / "b")
    assert on(source, "backup", file).status == 0
    query(source, "CREATE DATABASE of_bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    of_bytes = postgres.server.url_of("of_bytes")
    for words in (["backup", str(tmp_path / "c")], ["restore", file], ["upgrade", "--check"]):
        refused = on(of_bytes, *words)
        assert refused.status == 1
        assert "has the encoding SQL_ASCII, and Ringfence needs UTF8" in refused.stderr
    assert not Path(tmp_path, "c").exists()
    query(source, "DROP DATABASE of_bytes")


def test_a_database_with_instances_on_it_is_left_alone(
    on: On, make_database: MakeDatabase, tmp_path: Path
) -> None:
    source = make_database()
    file = str(tmp_path / "b")
    assert on(source, "backup", file).status == 0
    # It stays alive however long the commands take.
    alive = "VALUES (gen_random_uuid(), 0, now() + interval '1 hour')"
    query(source, f"INSERT INTO event_instances (instance, cursor, seen_at) {alive}")
    for words in (["--replace", "--yes"], ["--check"]):
        refused = on(source, "restore", file, *words)
        assert refused.status == 1
        assert "instances of Ringfence run on this database: 1" in refused.stderr
        assert "A backup of Ringfence" in refused.stdout


def test_what_a_killed_restore_has_set_aside_is_told(
    on: On, make_database: MakeDatabase, tmp_path: Path
) -> None:
    source = make_database()
    file = str(tmp_path / "b")
    assert on(source, "backup", file).status == 0
    query(source, "ALTER SCHEMA public RENAME TO ringfence_replaced_public")
    refused = on(source, "restore", file, "--replace", "--yes")
    assert refused.status == 1
    assert "ALTER SCHEMA ringfence_replaced_public RENAME TO public" in refused.stderr


def test_a_backup_of_a_newer_release_is_refused_and_one_of_an_older_is_migrated(
    on: On, make_database: MakeDatabase, tmp_path: Path
) -> None:
    newer, older, target = make_database(), make_database(), make_database(empty=True)
    query(newer, "UPDATE alembic_version_health_checks SET version_num = 'health_checks_9999'")
    query(older, "DROP TABLE alembic_version_notifications")
    tables = query(older, "SELECT tablename FROM pg_tables WHERE tablename LIKE 'notifications%%'")
    for (table,) in tables:
        query(older, f"DROP TABLE {table} CASCADE")
    assert tables
    for url, name in ((newer, "newer"), (older, "older")):
        assert on(url, "backup", str(tmp_path / name)).status == 0
    refused = on(target, "restore", str(tmp_path / "newer"))
    assert refused.status == 1
    assert "revision health_checks_9999 of health-checks, which this release does not know" in refused.stderr
    assert on(target, "restore", str(tmp_path / "older")).status == 0
    assert query(target, "SELECT tablename FROM pg_tables WHERE tablename LIKE 'notifications%%'")


def test_a_plugin_that_is_not_installed_is_told_and_its_tables_are_restored(
    on: On, make_database: MakeDatabase, tmp_path: Path
) -> None:
    source, target = make_database(), make_database(empty=True)
    query(source, "CREATE TABLE alembic_version_far_off AS SELECT '0001' AS version_num")
    assert on(source, "backup", str(tmp_path / "b")).status == 0
    restored = on(target, "restore", str(tmp_path / "b"), "--json")
    assert restored.status == 0, restored.stderr
    assert restored.json["notInstalled"] == ["far-off"]
    assert "The plugin far-off is not installed" in restored.stderr
    assert query(target, "SELECT version_num FROM alembic_version_far_off") == [("0001",)]


def test_a_key_that_is_not_here_is_named_and_one_that_came_along_is_kept(
    on: On,
    make_database: MakeDatabase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = make_database(), make_database(empty=True)
    fill(source)
    assert on(source, "backup", str(tmp_path / "without")).status == 0
    with_keys = on(source, "backup", str(tmp_path / "with"), "--include-keys")
    assert "is in the file: guard it as the key" in " ".join(with_keys.stdout.split())
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / "secrets-key").write_text(Key(b"o" * 32).text + "\n")
    (data_dir / "secrets-key").chmod(0o600)
    monkeypatch.delenv("RINGFENCE_SECRETS_KEY")

    lacking = on(source, "backup", str(tmp_path / "lacking"), "--include-keys")
    assert lacking.status == 1
    assert f"the key {KEY.id} of secrets is not on this machine" in lacking.stderr
    assert not (tmp_path / "lacking").exists()

    restored = on(target, "restore", str(tmp_path / "without"), "--json")
    assert restored.status == 0, restored.stderr
    assert f"The key {KEY.id} of secrets, which 1 row needs, is neither here" in restored.stderr
    assert restored.json["missingKeys"][0]["fingerprint"] == KEY.id
    assert restored.json["unreadable"] == {"secrets": ["S"]}

    restored = on(target, "restore", str(tmp_path / "with"), "--replace", "--yes", "--json")
    assert restored.status == 0, restored.stderr
    assert restored.json["unreadable"] == {}
    kept = (data_dir / "secrets-key").read_text().splitlines()
    assert [base64.b64decode(line) for line in kept] == [b"o" * 32, KEY.secret]
    assert stat.S_IMODE((data_dir / "secrets-key").stat().st_mode) == 0o600


def test_a_backup_that_is_stopped_or_fails_leaves_no_file(
    on: On, make_database: MakeDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_database()
    place = tmp_path / "backups"
    place.mkdir()

    def stopped(*_: object) -> object:
        yield b"a part"
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(programs, "output_of", stopped)
        assert on(source, "backup", str(place / "b")).status == 130
    fails = tmp_path / "pg_dump"
    fails.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "pg_dump (PostgreSQL) 99.1" && exit 0\necho part\nexit 1\n'
    )
    fails.chmod(0o755)
    failed = on(source, "backup", str(place / "b"), "--pg-dump", str(fails))
    assert (failed.status, list(place.iterdir())) == (1, [])
    assert "pg_dump failed" in failed.stderr

    assert on(source, "backup", str(place / "b")).status == 0
    before = (place / "b").read_bytes()
    again = on(source, "backup", str(place / "b"))
    assert (again.status, (place / "b").read_bytes() == before) == (1, True)
    assert "is there already" in again.stderr


def test_programs_that_do_not_fit_are_told(on: On, make_database: MakeDatabase, tmp_path: Path) -> None:
    source, target = make_database(), make_database(empty=True)
    for name in ("pg_dump", "pg_restore"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} (PostgreSQL) 15.18"\n')
        (tmp_path / name).chmod(0o755)
    dumped = on(source, "backup", str(tmp_path / "b"), "--pg-dump", str(tmp_path / "pg_dump"))
    assert dumped.status == 1
    assert "a pg_dump that is older than its server cannot dump it" in dumped.stderr
    assert on(source, "backup", str(tmp_path / "b")).status == 0
    restored = on(target, "restore", str(tmp_path / "b"), "--pg-restore", str(tmp_path / "pg_restore"))
    assert restored.status == 1
    assert "which an older pg_restore cannot read" in restored.stderr


def test_a_password_is_in_no_message(on: On, make_database: MakeDatabase, tmp_path: Path) -> None:
    host = make_url(make_database()).query["host"]
    failed = on(
        f"postgresql://ringfence:s3cret@/no_such_database?host={host}",
        "backup",
        str(tmp_path / "b"),
        "--json",
    )
    assert failed.status == 1
    assert "no_such_database" in json.loads(failed.stdout)["error"]["message"]
    assert "s3cret" not in failed.stdout + failed.stderr


def test_a_data_directory_without_a_database_is_told_and_none_is_made(
    command: Command, tmp_path: Path
) -> None:
    failed = command("backup", str(tmp_path / "b"))
    assert failed.status == 1
    assert "there is no database in" in failed.stderr
    assert not (tmp_path / "data").exists()


def test_a_backup_is_looked_at_where_there_is_no_database_and_none_is_made(
    on: On, make_database: MakeDatabase, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert on(make_database(), "backup", str(tmp_path / "b")).status == 0
    monkeypatch.delenv("RINGFENCE_DATABASE_URL")
    checked = command("restore", "--check", str(tmp_path / "b"))
    assert checked.status == 0, checked.stderr
    assert "The file is whole and can be restored here" in checked.stdout
    assert not (tmp_path / "data" / "postgres").exists()
