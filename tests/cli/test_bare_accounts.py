"""Users as containers have them: a uid without a name or a home, and a file system that nobody can write to."""

from __future__ import annotations

import asyncio
import os
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from ringfence.cli.address import NoHost, find_address
from ringfence.cli.commands.instance import read_settings
from ringfence.process.errors import UsageMistake
from ringfence.sandbox.launch.making.scratch import remove_orphans
from ringfence.storage.datadir import DataDirError, default_data_dir
from ringfence.storage.embedded import EmbeddedPostgres, EmbeddedPostgresError

from tests.primitives import requires

NAMELESS_UID = 777_777


def as_nameless(work: Callable[[], str]) -> str:
    """What `work` answers in a process of a uid without an entry in the password database, and without HOME."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.environ.pop("HOME", None)
            os.environ.pop("RINGFENCE_DATA_DIR", None)
            os.setgroups([])
            os.setresgid(NAMELESS_UID, NAMELESS_UID, NAMELESS_UID)
            os.setresuid(NAMELESS_UID, NAMELESS_UID, NAMELESS_UID)
            answer = work()
        except BaseException:
            answer = traceback.format_exc()
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        answer = told.read()
    os.waitpid(child, 0)
    return answer


def refusal(of: type[Exception], work: Callable[[], object]) -> str:
    try:
        work()
    except of as error:
        return str(error)
    return "it was not refused"


@requires("root")
def test_a_user_without_a_home_is_told_to_name_a_directory() -> None:
    assert "RINGFENCE_DATA_DIR" in as_nameless(lambda: refusal(DataDirError, default_data_dir))
    assert "RINGFENCE_DATA_DIR" in as_nameless(lambda: refusal(UsageMistake, read_settings))
    assert "no running host is known" in as_nameless(lambda: refusal(NoHost, lambda: find_address({})))


@requires("root")
def test_a_user_without_a_home_can_use_a_host_elsewhere() -> None:
    there = {"RINGFENCE_URL": "http://127.0.0.1:1", "RINGFENCE_TOKEN": "t"}
    assert as_nameless(lambda: find_address(there).url) == "http://127.0.0.1:1"


@requires("root")
def test_a_user_without_a_name_is_told_that_the_embedded_database_needs_one(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres")
    told = as_nameless(lambda: refusal(EmbeddedPostgresError, lambda: asyncio.run(server.start())))
    assert "RINGFENCE_DATABASE_URL" in told
    assert "/etc/passwd" in told


def test_where_nothing_can_be_written_there_is_nothing_to_remove(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    remove_orphans()
