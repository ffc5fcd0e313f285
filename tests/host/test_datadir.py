"""The data directory: one process at a time, and nothing in it that others can read."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from ringfence.host import Host, serve
from ringfence.settings import HostSettings
from ringfence.storage.datadir import DataDir, DataDirError, default_data_dir
from ringfence.web.server import ListenError, listen

from tests.waiting import next_line

HOLD = """
import sys
from pathlib import Path
from ringfence.storage.datadir import DataDir
with DataDir(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "data"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert next_line(holder.stdout, "that it is held") == "held\n"
        with pytest.raises(DataDirError) as taken, DataDir(tmp_path / "data").locked():
            pass
        assert str(holder.pid) in str(taken.value)
        assert str(tmp_path / "data") in str(taken.value)
        # However it ends, the kernel lets go of the lock.
        holder.kill()
    with DataDir(tmp_path / "data").locked():
        pass


def test_the_directory_can_be_traversed_but_not_listed_by_others(tmp_path: Path) -> None:
    DataDir(tmp_path / "data").create()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o711


def test_each_user_has_a_directory_of_their_own_and_root_one_that_others_can_pass_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_data_dir().is_relative_to(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert not default_data_dir().is_relative_to(tmp_path)
    existing = [parent for parent in default_data_dir().parents if parent.exists()]
    assert all(parent.stat().st_mode & 0o001 for parent in existing), existing


def test_a_directory_that_cannot_be_made_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirError, match="RINGFENCE_DATA_DIR"):
        DataDir(tmp_path / "file" / "data").create()


def test_a_private_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        written = DataDir(tmp_path).write_private("secret", "x")
    finally:
        os.umask(before)
    assert written.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_of_a_private_file_that_cannot_be_written_nothing_is_left(tmp_path: Path) -> None:
    DataDir(tmp_path).write_private("token", "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            DataDir(tmp_path).write_private("token", "new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["token"]
    assert (tmp_path / "token").read_text() == "old"


@pytest.mark.parametrize("note", ["", "{", "[]", "null", "\udcff"])
def test_an_unreadable_note_is_no_note(tmp_path: Path, note: str) -> None:
    (tmp_path / "instance.json").write_text(note, errors="surrogateescape")
    assert DataDir(tmp_path).read_instance_note() == {}


async def test_serving_notes_where_it_listens_and_forgets_it_at_the_end(
    database_url: str, tmp_path: Path
) -> None:
    settings = HostSettings(database_url=database_url, data_dir=tmp_path, port=0)
    data_dir = DataDir(tmp_path)
    async with serve(settings, plugins=[]) as (_, url):
        assert data_dir.read_instance_note() == {"url": url, "pid": str(os.getpid())}
        with pytest.raises(DataDirError, match=str(os.getpid())):
            async with serve(settings, plugins=[]):
                pass
        assert data_dir.read_instance_note()["url"] == url, "the one that was refused touched nothing"
    assert data_dir.read_instance_note() == {}
    with data_dir.locked():
        pass


async def test_a_taken_port_is_told_before_anything_is_started(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as listener:
        settings = HostSettings(data_dir=tmp_path / "data", port=listener.getsockname()[1])
        with pytest.raises(ListenError, match="choose others with --host and --port"):
            async with serve(settings, plugins=[]):
                pass
    assert not (tmp_path / "data").exists()


async def test_an_emptied_admin_token_is_refused(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "admin-token").write_text("\n")
    with pytest.raises(DataDirError, match="admin-token is empty"):
        async with Host(HostSettings(database_url=database_url, data_dir=tmp_path), plugins=[]):
            pass
