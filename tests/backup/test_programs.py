"""Which of PostgreSQL's programs are taken, and what they are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from ringfence.backup import programs
from ringfence.backup.errors import BackupError


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs of other versions, in the only places that are looked at."""
    monkeypatch.setattr(programs, "bundled_programs", lambda: tmp_path / "18")
    monkeypatch.setattr(programs, "_DEBIAN", tmp_path / "debian")
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    for place, version in (("18", "18.4"), ("path", "16.2"), ("debian/15/bin", "15.18 (Debian 15.18-0)")):
        program = tmp_path / place / "pg_dump"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    return tmp_path


def at_least(server: int) -> object:
    return lambda version: None if version >= server else f"the server is of {server}"


@pytest.mark.parametrize(("server", "taken"), [(15, 15), (16, 16), (14, 15), (17, 18), (18, 18)])
def test_the_servers_own_version_is_taken_first_and_then_the_next(
    made: Path, server: int, taken: int
) -> None:
    assert programs.chosen("pg_dump", at_least(server), server=server).major == taken  # type: ignore[arg-type]


def test_a_server_that_is_newer_than_all_of_them_is_told_with_what_to_do(made: Path) -> None:
    with pytest.raises(BackupError, match=r"the newest is of PostgreSQL 18 .*: the server is of 19") as told:
        programs.chosen("pg_dump", at_least(19), server=19)  # type: ignore[arg-type]
    assert told.value.hint == "Install the programs of PostgreSQL 19, or name one with --pg-dump."


def test_the_one_that_is_named_is_taken_or_told_why_not(made: Path) -> None:
    old = made / "debian/15/bin/pg_dump"
    assert programs.chosen("pg_dump", at_least(15), server=15, given=old).path == old  # type: ignore[arg-type]
    with pytest.raises(BackupError, match="is of PostgreSQL 15: the server is of 18"):
        programs.chosen("pg_dump", at_least(18), server=18, given=old)  # type: ignore[arg-type]
    with pytest.raises(BackupError, match="is no pg_dump"):
        programs.chosen("pg_dump", at_least(18), server=18, given=Path("/bin/true"))  # type: ignore[arg-type]


def test_a_password_goes_by_the_environment_and_is_no_argument() -> None:
    url = "postgresql://ann:p%40ss@db.example:6543/things?sslmode=require&keepalives=1"
    found = programs.environment(url, {"PATH": "/usr/bin"})
    assert found["PGPASSWORD"] == "p@ss"
    assert (found["PGHOST"], found["PGPORT"], found["PGUSER"]) == ("db.example", "6543", "ann")
    assert (found["PGDATABASE"], found["PGSSLMODE"], found["PATH"]) == ("things", "require", "/usr/bin")


def test_what_a_program_says_of_rows_is_not_told(tmp_path: Path) -> None:
    program = tmp_path / "pg_restore"
    program.write_text(
        "#!/bin/sh\ncat >/dev/null\necho 'error: COPY failed\nCONTEXT:  COPY t: \"s3cret\"' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    with pytest.raises(BackupError, match="COPY failed") as told:
        programs.fed(programs.Program(program, 18), [], {"PATH": "/usr/bin:/bin"}, [b"x" * 100_000] * 5)
    assert "s3cret" not in str(told.value)
