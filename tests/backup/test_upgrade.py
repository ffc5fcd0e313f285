"""`ringfence upgrade --check`: what would change, and what is to be mended; nothing is written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ringfence.storage.migrating import HOST_MIGRATIONS, MigrationBranch
from ringfence.storage.revisions import changed_tables, known, pending

from tests.backup.conftest import MakeDatabase, query
from tests.backup.test_commands import On, on

__all__ = ["on"]

HOST = MigrationBranch("host", HOST_MIGRATIONS)


def test_a_database_of_this_release_needs_nothing(on: On, make_database: MakeDatabase) -> None:
    checked = on(make_database(), "upgrade", "--check")
    assert (checked.status, checked.stdout.splitlines()[-1]) == (0, "There is nothing to do."), checked.stderr


def test_everything_that_is_to_be_done_or_mended_is_told_and_nothing_is_done(
    on: On, make_database: MakeDatabase
) -> None:
    url = make_database()
    # As the last release of the host has left it, with another plugin and an instance of it.
    query(url, "ALTER TABLE event_instances DROP COLUMN release")
    query(url, "UPDATE alembic_version_host SET version_num = 'host_0014'")
    query(url, "UPDATE alembic_version_secrets SET version_num = 'secrets_9999'")
    query(url, "CREATE TABLE alembic_version_far_off AS SELECT '0001' AS version_num")
    query(url, "INSERT INTO event_instances (instance, cursor, seen_at) VALUES (gen_random_uuid(), 0, now())")
    query(url, "CREATE EXTENSION IF NOT EXISTS pg_trgm VERSION '1.5'")
    checked = on(url, "upgrade", "--check", "--json")
    assert checked.status == 1, checked.stderr
    told = checked.json
    branches = {one["plugin"]: one for one in told["branches"]}
    assert branches["host"]["pending"][0] == {
        "revision": "host_0015",
        "what": "Which release each instance is of.",
    }
    assert "event_instances" in [one["name"] for one in branches["host"]["tables"]]
    assert branches["secrets"]["unknown"] == ["secrets_9999"]
    assert not branches["satellite"]["pending"]
    assert told["missingPlugins"] == ["far-off"]
    assert told["instances"] == [{"release": "before 0.1.0", "count": 1}]
    assert [one["name"] for one in told["extensions"]] == ["pg_trgm"]
    said = on(url, "upgrade", "--check").stdout
    assert "host: host_0015 is to be run: Which release each instance is of." in said
    assert "host: they may change event_instances: about 0 rows" in said
    assert query(url, "SELECT version_num FROM alembic_version_host") == [("host_0014",)]


def test_without_check_it_says_who_upgrades(on: On) -> None:
    asked = on("postgresql:///nowhere", "upgrade")
    assert asked.status == 2
    assert "the first host of a release that starts on it" in asked.stderr


def test_what_migrations_change_is_read_from_their_sql() -> None:
    assert "event_cursors" in (changed_tables(HOST, ()) or ())
    assert [one.id for one in pending(HOST, ("host_0013",))][:2] == ["host_0014", "host_0015"]
    assert "host_0001" in known(HOST)


def test_a_migration_that_asks_the_database_is_of_unknown_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "asking_migrations"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "0001.py").write_text(
        "from alembic import op\nfrom sqlalchemy import text\nrevision = '0001'\ndown_revision = None\n"
        "def upgrade():\n    op.get_bind().execute(text('SELECT 1')).scalar_one()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert changed_tables(MigrationBranch("asking", "asking_migrations"), ()) is None
    sys.modules.pop("asking_migrations", None)
