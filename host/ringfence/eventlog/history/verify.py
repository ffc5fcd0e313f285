"""Tamper evidence: whether a stream still says what was written.

Each event carries a hash over its content and its predecessor's hash. Here the chain is computed anew, from built-in
functions alone: the function that wrote the hashes could itself have been tampered with.

Threat: somebody with access to the database changes, removes or inserts an event in the middle. Mechanism: the first
one that does not fit is named. Not covered, without a hash that was noted elsewhere: events removed from the end, and
a chain that was written anew as a whole. So note the head's version and hash outside of the database (an *anchor*)
and have it checked the next time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

# The same content as `ringfence_event_hash` (migration host_0001), spelled out.
_CHAIN = """
    SELECT version, stream, hash,
           coalesce(pg_catalog.lag(version) OVER chain, 0) + 1 AS expected_version,
           pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.jsonb_build_array(
               pg_catalog.encode(coalesce(pg_catalog.lag(hash) OVER chain, ''::bytea), 'hex'), stream, version, hook,
               plugin, payload, actor, reason, (extract(epoch FROM occurred_at) * 1000000)::bigint
           )::text, 'UTF8')) AS expected_hash
      FROM events WHERE stream = :stream WINDOW chain AS (ORDER BY version)
"""
_FIRST_MISFIT = text(f"""
    WITH links AS ({_CHAIN})
    SELECT version, expected_version FROM links
     WHERE version <> expected_version OR hash <> expected_hash ORDER BY version LIMIT 1
""")  # noqa: S608
_HEAD = text("SELECT version, hash FROM events WHERE stream = :stream ORDER BY version DESC LIMIT 1")
_HASH = text("SELECT hash FROM events WHERE stream = :stream AND version = :version")
_ANCHOR = re.compile(r"(\d{1,18}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Anchor:
    """A version of a stream and its hash, as they were noted when the stream was known to be good."""

    version: int
    hash: str

    @classmethod
    def parse(cls, written: str) -> Self:
        """From `VERSION:HASH`. Raises `ValueError`."""
        if (found := _ANCHOR.fullmatch(written.strip().lower())) is None:
            raise ValueError("an anchor is a version and its 64 hexadecimal digits: 7:0123…")
        return cls(int(found[1]), found[2])

    def __str__(self) -> str:
        return f"{self.version}:{self.hash}"


@dataclass(frozen=True, slots=True)
class Misfit:
    """The first version that is not as it was written, and what is wrong with it."""

    version: int
    what: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found. `head` is the newest version, to be noted as an anchor; None for an empty stream."""

    head: Anchor | None
    misfit: Misfit | None


async def verify_stream(session: AsyncSession, stream: str, *, anchor: Anchor | None = None) -> Verification:
    """Compute the stream's chain anew, from version 1 on, and compare it with an anchor if there is one."""
    row = (await session.execute(_HEAD, {"stream": stream})).one_or_none()
    head = None if row is None else Anchor(row.version, row.hash.hex())
    misfit = await _first_misfit(session, stream)
    if anchor is not None and (misfit is None or anchor.version < misfit.version):
        misfit = await _check_anchor(session, stream, anchor) or misfit
    return Verification(head, misfit)


async def _first_misfit(session: AsyncSession, stream: str) -> Misfit | None:
    row = (await session.execute(_FIRST_MISFIT, {"stream": stream})).one_or_none()
    if row is None:
        return None
    if row.version != row.expected_version:
        return Misfit(row.expected_version, f"is missing: the next one there is {row.version}")
    return Misfit(row.version, "does not fit its hash: it, or what comes before it, was changed")


async def _check_anchor(session: AsyncSession, stream: str, anchor: Anchor) -> Misfit | None:
    found = (await session.execute(_HASH, {"stream": stream, "version": anchor.version})).scalar_one_or_none()
    if found is None:
        return Misfit(anchor.version, "is missing, though its hash was noted")
    if found.hex() != anchor.hash:
        return Misfit(
            anchor.version, "has another hash than the one that was noted: the chain up to it was rewritten"
        )
    return None
