"""Killed at any moment of an installation, a set never has a lock of which a file is missing, damaged or untold."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.waiting import in_time

ROUNDS = [*range(3, 64, 6), 10_000]
"""Before which statement the process dies; before the last one it does not."""


def look(url: str) -> str | None:
    """The lock that the set has, once it is known that all of it is there and was told."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT lock_hash FROM script_packages_sets WHERE name = 'default'"
        ).fetchone()
        lock = None if row is None else row[0]
        rows = connection.execute("SELECT sha256, upload_id FROM script_packages_blobs").fetchall()
        blobs = {str(sha256): upload for sha256, upload in rows}
        for sha256, upload in blobs.items():
            chunks = connection.execute(
                "SELECT content FROM script_packages_chunks WHERE upload_id = %s ORDER BY number", [upload]
            ).fetchall()
            assert hashlib.sha256(b"".join(bytes(chunk) for (chunk,) in chunks)).hexdigest() == sha256
        told = connection.execute(
            "SELECT payload->>'lockHash' FROM events WHERE stream = 'script-packages.script-packages-changed' "
            "ORDER BY position DESC LIMIT 1"
        ).fetchone()
        if lock is None:
            assert told is None
            return None
        named = connection.execute(
            "SELECT sha256 FROM script_packages_lock_files WHERE lock_hash = %s", [lock]
        ).fetchall()
        assert len(named) == 2
        assert {sha256 for (sha256,) in named} <= blobs.keys()
        assert told is not None
        assert told[0] == lock
        return str(lock)


@pytest.mark.slow
async def test_what_a_set_has_is_whole_and_told_whenever_the_installer_dies(
    database_url: str, tmp_path: Path
) -> None:
    url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    pipe = asyncio.subprocess.PIPE
    program = ("-m", "tests.script_packages.packages.dying_installer", database_url, str(tmp_path / "data"))
    process = await asyncio.create_subprocess_exec(sys.executable, *program, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    locks, statuses = [], []
    for fatal in ROUNDS:
        process.stdin.write(b"%d\n" % fatal)
        async with in_time("the installer ends"):
            statuses.append(int(await process.stdout.readline()))
        locks.append(await asyncio.to_thread(look, url))
    await process.communicate(b"")
    assert set(statuses) <= {0, -signal.SIGKILL}
    assert statuses.count(-signal.SIGKILL) > 4
    assert 0 in statuses[:-1], "the last statements were among those before which it died"
    assert statuses[-1] == 0, "in the end it is installed, whatever was left before"
    assert locks[-1] is not None
