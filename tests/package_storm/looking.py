"""What must be true whenever one looks: blobs, locks and trees are whole or absent, and sets have all their files."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import hashlib
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import psycopg
from ringfence.scripts.packages.blobs import BlobDirectory
from ringfence.scripts.packages.lock import Lock
from ringfence.scripts.packages.platform import Platform
from ringfence.scripts.packages.trees import Trees, tree_key

from tests.package_storm.publisher import Publisher, seen

_DAMAGED = """
    SELECT blob.sha256 FROM script_packages_blobs AS blob
      LEFT JOIN script_packages_chunks AS chunk ON chunk.upload_id = blob.upload_id
     GROUP BY blob.sha256, blob.size
    HAVING encode(sha256(coalesce(string_agg(chunk.content, '' ORDER BY chunk.number), '')), 'hex') <> blob.sha256
        OR coalesce(sum(length(chunk.content)), 0) <> blob.size
"""
_MISSING = """
    SELECT sets.name, file.sha256 FROM script_packages_sets AS sets
      JOIN script_packages_lock_files AS file ON file.lock_hash = sets.lock_hash
     WHERE NOT EXISTS (SELECT FROM script_packages_blobs WHERE sha256 = file.sha256)
"""
_UNTOLD = """
    SELECT sets.name, sets.lock_hash, told.hash FROM script_packages_sets AS sets
      LEFT JOIN LATERAL (
        SELECT payload->>'lockHash' AS hash FROM events
         WHERE stream = 'script-packages.script-packages-changed' AND payload->>'set' = sets.name
         ORDER BY position DESC LIMIT 1
      ) AS told ON true
     WHERE sets.lock_hash IS DISTINCT FROM told.hash
"""
_NOBODYS = {
    "uploads": """SELECT id::text FROM script_packages_uploads AS one
                   WHERE NOT EXISTS (SELECT FROM script_packages_blobs WHERE upload_id = one.id)""",
    "chunks": """SELECT DISTINCT upload_id::text FROM script_packages_chunks AS one
                  WHERE NOT EXISTS (SELECT FROM script_packages_blobs WHERE upload_id = one.upload_id)""",
    "blobs": """SELECT sha256 FROM script_packages_blobs AS one
                 WHERE NOT EXISTS (SELECT FROM script_packages_lock_files WHERE sha256 = one.sha256)""",
    "locks": """SELECT hash FROM script_packages_locks AS one
                 WHERE NOT EXISTS (SELECT FROM script_packages_sets WHERE lock_hash = one.hash)""",
    "large objects": "SELECT oid::text FROM pg_largeobject_metadata",
}
_AGE = (
    "UPDATE script_packages_uploads SET started_at = started_at - interval '10 days'",
    "UPDATE script_packages_blobs SET wanted_at = wanted_at - interval '10 days'",
    "UPDATE script_packages_locks SET wanted_at = wanted_at - interval '10 days'",
)


async def rows(url: str, *queries: str) -> list[list[tuple[Any, ...]]]:
    """What the database answers, to all of them as of one moment."""
    async with await psycopg.AsyncConnection.connect(url.replace("+psycopg", "")) as connection:
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        return [await (await connection.execute(query.encode())).fetchall() for query in queries]


async def check_database(url: str) -> None:
    """Every blob is whole, each set has all its files, and everybody was told of the lock that it has."""
    damaged, missing, untold = await rows(url, _DAMAGED, _MISSING, _UNTOLD)
    assert damaged == [], "blobs are not what they are called"
    assert missing == [], "files of sets are not stored"
    assert untold == [], "the last that was told of a set is not what it has"


async def nobodys(url: str) -> dict[str, list[str]]:
    """What is in the database that nothing refers to."""
    found = await rows(url, *_NOBODYS.values())
    return {kind: [str(row[0]) for row in some] for kind, some in zip(_NOBODYS, found, strict=True) if some}


async def let_all_be_old(url: str) -> None:
    """Have all that is stored be so old that whatever nobody wants may go."""
    async with await psycopg.AsyncConnection.connect(url.replace("+psycopg", "")) as connection:
        for statement in _AGE:
            await connection.execute(statement.encode())


async def note_locks(url: str, locks: dict[str, Lock], platforms: dict[str, Platform]) -> None:
    """Remember the locks and platforms that there are: a run may have one that is deleted soon."""
    found, known = await rows(
        url,
        "SELECT hash, document FROM script_packages_locks",
        "SELECT key, platform FROM script_packages_platforms",
    )
    for hash, document in found:
        if hash not in locks:
            locks[hash] = await asyncio.to_thread(Lock.model_validate, document)
            assert locks[hash].hash == hash, "a lock is not what it is called"
    for key, platform in known:
        platforms[key] = Platform.model_validate(platform)


def check_directory(
    packages: Path, locks: dict[str, Lock], platforms: Collection[Platform], publisher: Publisher
) -> set[str]:
    """Every tree and every file of a machine is whole; the locks of its trees."""
    trees, there = Trees(packages, BlobDirectory(packages / "blobs")), set()
    of_keys = {tree_key(hash, platform): (hash, platform) for hash in locks for platform in platforms}
    for key in trees.made():
        assert key in of_keys, f"{packages} has a tree of no lock"
        hash, platform = of_keys[key]
        pin = trees.pin(hash, platform)
        if pin is None:
            continue  # It was collected meanwhile.
        with pin:
            assert seen(pin.path) == publisher.expected(locks[hash]), f"{pin.path} is not whole"
        there.add(hash)
    blobs = packages / "blobs"
    for name in os.listdir(blobs) if blobs.is_dir() else ():
        if re.fullmatch("[0-9a-f]{64}", name):
            with contextlib.suppress(FileNotFoundError):
                assert hashlib.sha256((blobs / name).read_bytes()).hexdigest() == name, f"{name} is damaged"
    return there


def left_in(packages: Path) -> list[str]:
    """What a machine's directory has that belongs to no tree of it."""
    made = set(os.listdir(packages / "trees"))
    kept = {f"{key}.pin" for key in made}
    found = [f"drafts/{name}" for name in os.listdir(packages / "drafts")]
    found += [f"locks/{name}" for name in os.listdir(packages / "locks") if name not in kept]
    found += [f"blobs/{name}" for name in os.listdir(packages / "blobs")]
    return found + [name for name in os.listdir(packages) if name.endswith(".draft")]


def adopt_orphans(*, adopts: bool) -> None:
    """Have the processes whose parents die become this process's, so that none is lost from sight (prctl(2))."""
    assert ctypes.CDLL(None, use_errno=True).prctl(36, int(adopts), 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER


def orphans(known: Collection[int]) -> dict[int, str]:
    """The children of this process that are not `known`, and their commands. Dead ones are buried."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in known:
            continue
        with contextlib.suppress(OSError, ChildProcessError):
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) != os.getpid():
                continue
            if state == "Z":
                os.waitpid(int(entry.name), os.WNOHANG)
            else:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found
