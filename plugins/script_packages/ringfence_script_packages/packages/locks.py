"""The locks in the database: what a set consists of exactly, by its hash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ringfence.scripts.packages.lock import Lock
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_PUT = text("""
    INSERT INTO script_packages_locks (hash, document) VALUES (:hash, CAST(:document AS jsonb))
    ON CONFLICT (hash) DO UPDATE SET document = excluded.document, wanted_at = now()
""")
_FILES = text("""
    INSERT INTO script_packages_lock_files (lock_hash, sha256) SELECT :hash, unnest(CAST(:digests AS text[]))
    ON CONFLICT DO NOTHING
""")
_GET = text("SELECT document FROM script_packages_locks WHERE hash = :hash")


async def put_lock(session: AsyncSession, lock: Lock) -> None:
    """Store a lock, or want it again: whoever is deleting what is old leaves it then.

    What was asked for belongs to the set that asked.
    """
    document = lock.model_dump(mode="json", by_alias=True, exclude={"requirements"})
    await session.execute(_PUT, {"hash": lock.hash, "document": json.dumps(document)})
    digests = sorted(file.sha256 for file in lock.files)
    await session.execute(_FILES, {"hash": lock.hash, "digests": digests})


async def read_lock(session: AsyncSession, hash: str) -> Lock | None:
    """The lock of this hash, without what was asked for."""
    document: Mapping[str, Any] | None = await session.scalar(_GET, {"hash": hash})
    return None if document is None else Lock.model_validate(document)
