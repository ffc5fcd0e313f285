"""The tables: sources, and what is released from them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import structlog
from pydantic import ValidationError
from ringfence.redaction import describe
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_gitops.sources.source import Source, SourceSpec, Status

_log = structlog.get_logger("ringfence.gitops")
_COLUMNS = """
    id, name, revision, spec, acts_for, token, created_at, created_by, updated_at, updated_by, status, commit, subject,
    author, signer, committed_at, objects, synced_at, tried_at, failing_since, error, findings,
    webhook_digest IS NOT NULL AS has_webhook, webhook_used_at
"""
_INSERT = text(f"""
    INSERT INTO gitops_sources (id, name, spec, acts_for, token, created_by, updated_by)
    VALUES (:id, :name, CAST(:spec AS jsonb), :acts_for, :token, :by, :by) RETURNING {_COLUMNS}
""")  # noqa: S608
_UPDATE = text(f"""
    UPDATE gitops_sources
       SET spec = CAST(:spec AS jsonb), acts_for = :acts_for, token = :token, revision = revision + 1,
           updated_at = clock_timestamp(), updated_by = :by
     WHERE name = :name RETURNING {_COLUMNS}
""")  # noqa: S608
_ALL = text(f"SELECT {_COLUMNS} FROM gitops_sources WHERE name > :after ORDER BY name LIMIT :limit")  # noqa: S608
_NAMED = text(f"SELECT {_COLUMNS} FROM gitops_sources WHERE name = :name")  # noqa: S608
_NAMED_LOCKED = text(f"{_NAMED.text} FOR UPDATE")
_ONE = text(f"SELECT {_COLUMNS} FROM gitops_sources WHERE id = :id")  # noqa: S608
_OF_WEBHOOK = text(f"SELECT {_COLUMNS} FROM gitops_sources WHERE webhook_digest = :digest")  # noqa: S608
_DELETE = text("DELETE FROM gitops_sources WHERE name = :name RETURNING id")
_LOCK = text(
    "SELECT revision, spec ->> 'enabled' = 'true' AS enabled FROM gitops_sources WHERE id = :id FOR UPDATE"
)
_SYNCED = text("""
    UPDATE gitops_sources
       SET status = 'synced', commit = :commit, subject = :subject, author = :author, signer = :signer,
           committed_at = :committed_at, objects = :objects, synced_at = clock_timestamp(),
           tried_at = clock_timestamp(), failing_since = NULL, error = NULL, findings = CAST(:findings AS jsonb)
     WHERE id = :id
""")
_FAILED = text("""
    UPDATE gitops_sources
       SET status = 'failed', error = :error, findings = CAST(:findings AS jsonb), tried_at = clock_timestamp(),
           failing_since = coalesce(failing_since, clock_timestamp())
     WHERE id = :id
""")
_WEBHOOK = text("""
    UPDATE gitops_sources SET webhook_digest = :digest, webhook_used_at = NULL WHERE name = :name RETURNING id
""")
_WEBHOOK_USED = text("UPDATE gitops_sources SET webhook_used_at = clock_timestamp() WHERE id = :id")
_RELEASE = text("""
    INSERT INTO gitops_released (kind, name, source_id, released_by, reason)
    VALUES (:kind, :name, :source, :by, :reason)
    ON CONFLICT (kind, name) DO UPDATE
       SET source_id = excluded.source_id, released_by = excluded.released_by, reason = excluded.reason,
           released_at = clock_timestamp()
""")
_GIVE_BACK = text("DELETE FROM gitops_released WHERE kind = :kind AND name = :name RETURNING source_id")
_RELEASED = text("""
    SELECT released.kind, released.name, source.name AS source, released.released_at, released.released_by,
           released.reason
      FROM gitops_released AS released JOIN gitops_sources AS source ON source.id = released.source_id
     ORDER BY released.kind, released.name
""")


class SourceTakenError(ValueError):
    """There is a source of this name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a source {name} already")


class UnreadableSourceError(RuntimeError):
    """A source is stored that this release cannot read, most likely since a newer one wrote it."""

    def __init__(self, name: str, error: ValidationError) -> None:
        super().__init__(
            f"this release cannot read the git source {name}: {describe(error)}; use the release that wrote it"
        )


async def insert(
    session: AsyncSession, name: str, spec: SourceSpec, *, acts_for: str, token: str, by: str
) -> Source:
    """Add a source. Raises `SourceTakenError`."""
    values = {
        "id": uuid.uuid4(),
        "name": name,
        **_written(spec),
        "acts_for": acts_for,
        "token": token,
        "by": by,
    }
    try:
        return _source((await session.execute(_INSERT, values)).one())
    except IntegrityError as error:
        raise SourceTakenError(name) from error


async def update(
    session: AsyncSession, name: str, spec: SourceSpec, *, acts_for: str, token: str, by: str
) -> Source | None:
    """Change a source as a whole; None if there is none."""
    values = {"name": name, **_written(spec), "acts_for": acts_for, "token": token, "by": by}
    row = (await session.execute(_UPDATE, values)).one_or_none()
    return None if row is None else _source(row)


async def page(session: AsyncSession, *, after: str = "", limit: int) -> list[Source]:
    """Sources by name. One that this release cannot read is left out, and told in the log."""
    found = []
    for row in await session.execute(_ALL, {"after": after, "limit": limit}):
        try:
            found.append(_source(row))
        except UnreadableSourceError as error:
            _log.error("a git source is left out", source=row.name, error=str(error))
    return found


async def named(session: AsyncSession, name: str, *, is_locked: bool = False) -> Source | None:
    """The source of this name; `is_locked`: nobody else changes it until the transaction ends.

    Raises `UnreadableSourceError`.
    """
    query = _NAMED_LOCKED if is_locked else _NAMED
    row = (await session.execute(query, {"name": name})).one_or_none()
    return None if row is None else _source(row)


async def one(session: AsyncSession, id: UUID) -> Source | None:
    """The source with this id. Raises `UnreadableSourceError`."""
    row = (await session.execute(_ONE, {"id": id})).one_or_none()
    return None if row is None else _source(row)


async def of_webhook(session: AsyncSession, digest: bytes) -> Source | None:
    """The source whose webhook's secret has this digest."""
    row = (await session.execute(_OF_WEBHOOK, {"digest": digest})).one_or_none()
    return None if row is None else _source(row)


async def delete(session: AsyncSession, name: str) -> UUID | None:
    """Remove a source; its id, if there was one."""
    found: UUID | None = (await session.execute(_DELETE, {"name": name})).scalar_one_or_none()
    return found


async def is_current(session: AsyncSession, source: Source) -> bool:
    """Whether a source is as it was read, and enabled; until the transaction ends, it stays so."""
    row = (await session.execute(_LOCK, {"id": source.id})).one_or_none()
    return row is not None and row.revision == source.revision and row.enabled


async def note_synced(session: AsyncSession, source: Source, values: Mapping[str, Any]) -> None:
    """Note that a commit holds."""
    findings = json.dumps(values["findings"])
    await session.execute(_SYNCED, {"id": source.id, **values, "findings": findings})


async def note_failed(
    session: AsyncSession, source: Source, error: str, findings: Sequence[Mapping[str, Any]]
) -> None:
    """Note why a source cannot be followed."""
    await session.execute(_FAILED, {"id": source.id, "error": error, "findings": json.dumps(list(findings))})


async def set_webhook(session: AsyncSession, name: str, digest: bytes | None) -> bool:
    """Give a source another webhook's address, or none; False if there is no such source."""
    values = {"name": name, "digest": digest}
    return (await session.execute(_WEBHOOK, values)).one_or_none() is not None


async def note_webhook(session: AsyncSession, source: Source) -> None:
    """Note that a webhook was used."""
    await session.execute(_WEBHOOK_USED, {"id": source.id})


async def release(
    session: AsyncSession, kind: str, name: str, source: UUID, *, by: str, reason: str | None
) -> None:
    """Note that an object is released."""
    values = {"kind": kind, "name": name, "source": source, "by": by, "reason": reason}
    await session.execute(_RELEASE, values)


async def give_back(session: AsyncSession, kind: str, name: str) -> UUID | None:
    """Note that an object is released no more; the source that it came from, if it was."""
    found: UUID | None = (
        await session.execute(_GIVE_BACK, {"kind": kind, "name": name})
    ).scalar_one_or_none()
    return found


async def released(session: AsyncSession) -> Sequence[Any]:
    """What is released, each with its source, who has done it, when and why."""
    return (await session.execute(_RELEASED)).all()


def _written(spec: SourceSpec) -> dict[str, str]:
    return {"spec": json.dumps(spec.to_wire())}


def _source(row: Any) -> Source:
    """Raises `UnreadableSourceError`."""
    try:
        spec = SourceSpec.model_validate(row.spec)
    except ValidationError as error:
        raise UnreadableSourceError(row.name, error) from error
    return Source(**{**row._asdict(), "spec": spec, "status": Status(row.status)})
