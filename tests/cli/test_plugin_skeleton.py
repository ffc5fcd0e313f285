"""What `ringfence plugin` makes works as it is: its tests pass, and so do its migrations."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ringfence.cli.commands import plugin
from ringfence.process.errors import CliError


def outcome_of(place: Path) -> subprocess.CompletedProcess[str]:
    """Run the tests of a plugin."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=place,
        env=os.environ | {"PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_new_plugin_and_its_next_migration_pass_the_tests_that_it_begins_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plugin.new("disk-diary")
    monkeypatch.chdir(tmp_path / "disk-diary")
    plugin.migration("More authors")
    made = Path("src/disk_diary/migrations/0002_more_authors.py")
    made.write_text(
        made.read_text().replace(
            "    ...\n", '    op.execute("ALTER TABLE disk_diary_notes ADD COLUMN place text")\n'
        )
    )
    assert "which comes after 0001" in capsys.readouterr().out
    done = outcome_of(Path())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@pytest.mark.parametrize("name", ["", "Disk", "disk_diary", "-disk", "disk--diary", "../disk", "7disk"])
def test_an_id_that_no_plugin_can_have_is_refused_and_nothing_is_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CliError, match="cannot be the id"):
        plugin.new(name)
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(CliError, match="not empty"):
        plugin.new("disk-diary", directory=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_migration_is_numbered_after_the_last_one_and_two_last_ones_are_told(tmp_path: Path) -> None:
    plugin.migration("first", directory=tmp_path)
    plugin.migration("second", directory=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001_first.py", "0002_second.py"]
    (tmp_path / "other.py").write_text('revision = "other"\ndown_revision = "0001"\n')
    with pytest.raises(CliError, match="0002, other"):
        plugin.migration("third", directory=tmp_path)


def test_without_a_package_of_migrations_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CliError, match="no package of migrations"):
        plugin.migration("first")
