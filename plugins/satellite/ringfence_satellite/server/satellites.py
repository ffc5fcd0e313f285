"""What is known of each satellite: the record, and the queries on the table that holds it.

Whether a satellite is online is worked out whenever it is read, from its last heartbeat and the database's
clock; no status is stored that could be left behind by an instance that died.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_satellite.labels import merged
from ringfence_satellite.server.profile import Profile
from ringfence_satellite.service import Absence, KnownSatellite, Presence, Selector

DEFAULT_OFFLINE_AFTER_SECONDS = 45.0
"""Three heartbeats: one that is lost, and one that is late, are no reason for an alarm."""

STATUS = """
    CASE WHEN last_heartbeat_at IS NULL THEN 'never'
         WHEN goodbye_at IS NOT NULL THEN 'offline'
         WHEN last_heartbeat_at < (SELECT heard_until FROM satellite_heard_until())
                                  - make_interval(secs => offline_after_seconds) THEN 'offline'
         ELSE 'online' END
"""
"""The SQL expression for a satellite's status: worked out, never stored. Up to when the fleet has written down whom it
heard: see `liveness`."""
COLUMNS = f"""
    id, name, region, tags, labels, vars, offline_after_seconds, created_at, created_by, {STATUS} AS status, connection,
    instance, connected_at, last_heartbeat_at, version, capabilities, applied_revision, applied_unknown, applied_at,
    enforced, downgrades
"""
_INSERT = text(f"""
    INSERT INTO satellite_satellites (id, name, region, tags, labels, vars, offline_after_seconds, token_digest,
                                      created_by)
    VALUES (:id, :name, :region, :tags, CAST(:labels AS jsonb), CAST(:vars AS jsonb), :offline_after_seconds, :digest,
            :by)
    ON CONFLICT (name) DO NOTHING RETURNING {COLUMNS}
""")  # noqa: S608
WITHIN_REACH = """
    (CAST(:reach AS jsonb) IS NULL OR EXISTS (
         SELECT FROM jsonb_array_elements(CAST(:reach AS jsonb)) AS one
          WHERE carried @> ARRAY(SELECT jsonb_array_elements_text(one))))
"""
_NAMES = text(f"""
    SELECT id, name FROM satellite_satellites WHERE id = ANY(CAST(:ids AS uuid[])) AND {WITHIN_REACH}
""")  # noqa: S608
_ONE = text(f"SELECT {COLUMNS} FROM satellite_satellites WHERE id = :id")  # noqa: S608
_LOCKED = text(f"SELECT {COLUMNS} FROM satellite_satellites WHERE id = :id FOR NO KEY UPDATE")  # noqa: S608
_LIST = text(f"""
    SELECT {COLUMNS} FROM satellite_satellites
     WHERE (CAST(:named AS text) IS NULL OR name = :named)
       AND (CAST(:region AS text) IS NULL OR region = :region)
       AND carried @> CAST(:tags AS text[])
       AND (CAST(:status AS text) IS NULL OR {STATUS} = :status)
       AND (CAST(:after AS text) IS NULL OR name > :after)
       AND (CAST(:ids AS uuid[]) IS NULL OR id = ANY(CAST(:ids AS uuid[])))
       AND {WITHIN_REACH}
     ORDER BY name LIMIT :limit
""")  # noqa: S608
_UPDATE = text(f"""
    UPDATE satellite_satellites
       SET name = :name, region = :region, tags = :tags, labels = CAST(:labels AS jsonb), vars = CAST(:vars AS jsonb),
           offline_after_seconds = coalesce(:offline_after_seconds, offline_after_seconds)
     WHERE id = :id RETURNING {COLUMNS}
""")  # noqa: S608
_ROTATE = text(f"""
    UPDATE satellite_satellites SET token_digest = :digest, unclaimed = false
     WHERE id = :id AND (unclaimed OR NOT :claim) RETURNING {COLUMNS}
""")  # noqa: S608
_UNCLAIMED = text("UPDATE satellite_satellites SET unclaimed = true WHERE id = :id")
_DELETE = text("DELETE FROM satellite_satellites WHERE id = :id RETURNING name")
_CREDENTIALS = text("""
    SELECT id, name, region, tags, labels, vars, token_digest, offline_after_seconds FROM satellite_satellites
     WHERE id = ANY(:ids)
""")
READ_AT_ONCE = 500
"""Satellites after which others on the event loop have their turn, where all are read."""
_FIND = text(f"""
    SELECT id, name, region, tags, labels, vars, {STATUS} AS status FROM satellite_satellites
     WHERE :everyone OR id = ANY(CAST(:ids AS uuid[])) OR carried && CAST(:tags AS text[])
           OR name = ANY(CAST(:names AS text[]))
     ORDER BY name
""")  # noqa: S608
_PRESENCE = text(f"""
    SELECT fleet.heard_until, fleet.steady_since, its.ids, its.since, its.concluded
      FROM satellite_heard_until() AS fleet
     CROSS JOIN LATERAL (
           SELECT array_agg(id) AS ids, array_agg(coalesce(goodbye_at, last_heartbeat_at)) AS since,
                  array_agg(CASE WHEN goodbye_at IS NULL
                                 THEN lost_heartbeat_at IS NOT DISTINCT FROM last_heartbeat_at
                                 ELSE greatest(goodbye_at, fleet.steady_since)
                                      < fleet.heard_until - make_interval(secs => offline_after_seconds) END)
                      AS concluded
             FROM satellite_satellites WHERE {STATUS} = 'offline') AS its
""")  # noqa: S608


@dataclass(frozen=True, slots=True)
class Satellite:
    """One satellite, as the database knows it. `labels` are those with a value; see `Profile`.

    `status` is online, offline or never (it has not connected yet). `applied_unknown`: the revision that it has
    applied is none that this database has.
    """

    id: UUID
    name: str
    region: str
    tags: list[str]
    labels: dict[str, str]
    vars: dict[str, str]
    offline_after_seconds: float
    created_at: dt.datetime
    created_by: str | None
    status: str
    connection: UUID | None
    instance: UUID | None
    connected_at: dt.datetime | None
    last_heartbeat_at: dt.datetime | None
    version: str | None
    capabilities: dict[str, Any] | None
    applied_revision: int | None
    applied_unknown: bool
    applied_at: dt.datetime | None
    enforced: dict[str, bool]
    downgrades: list[dict[str, str]]

    @property
    def profile(self) -> Profile:
        """What was said of it."""
        return Profile(self.name, self.region, tuple(self.tags), self.labels, self.vars)

    def to_wire(self) -> dict[str, Any]:
        """The satellite as JSON for the API."""
        return {
            "id": str(self.id),
            "name": self.name,
            "region": self.region,
            "tags": self.tags,
            "labels": dict(self.profile.all_labels),
            "vars": self.vars,
            "offlineAfterSeconds": self.offline_after_seconds,
            "createdAt": self.created_at,
            "createdBy": self.created_by,
            "status": self.status,
            "connectedAt": self.connected_at if self.connection else None,
            "instance": str(self.instance) if self.connection else None,
            "lastHeartbeatAt": self.last_heartbeat_at,
            "version": self.version,
            "capabilities": self.capabilities,
            "appliedRevision": self.applied_revision,
            "appliedUnknown": self.applied_unknown,
            "appliedAt": self.applied_at,
            "enforced": self.enforced,
            "downgrades": self.downgrades,
        }


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a connection is let in by, and what is known of its satellite then.

    This is the digest of its satellite's token, and when its silence means that it is gone.
    """

    digest: bytes
    offline_after_seconds: float
    profile: Profile


async def insert(
    session: AsyncSession,
    *,
    id: UUID,
    profile: Profile,
    offline_after_seconds: float,
    digest: bytes,
    by: str,
) -> Satellite | None:
    """Add a satellite; None when its name is taken."""
    values = {
        "id": id,
        **_written(profile),
        "offline_after_seconds": offline_after_seconds,
        "digest": digest,
        "by": by,
    }
    row = (await session.execute(_INSERT, values)).one_or_none()
    return None if row is None else Satellite(*row)


async def one(session: AsyncSession, id: UUID) -> Satellite | None:
    """The satellite with this id."""
    row = (await session.execute(_ONE, {"id": id})).one_or_none()
    return None if row is None else Satellite(*row)


async def listed(
    session: AsyncSession,
    *,
    named: str | None = None,
    region: str | None = None,
    tags: Sequence[str] = (),
    status: str | None = None,
    after: str | None = None,
    limit: int,
    reach: Collection[Collection[str]] | None = None,
    selector: Selector | None = None,
) -> list[Satellite]:
    """The satellites that have the name, the region, all of the tags, and the status, and are selected.

    They are in the order of their names, from after the name `after`. With a `reach`, only those that have all tags
    of one of its members.
    """
    values = {
        "named": named,
        "region": region,
        "tags": list(tags),
        "status": status,
        "after": after,
        "limit": limit,
        "reach": reach_wire(reach),
        "ids": None if selector is None else await _selected(session, selector),
    }
    return [Satellite(*row) for row in await session.execute(_LIST, values)]


async def locked(session: AsyncSession, id: UUID) -> Satellite | None:
    """The satellite with this id; nobody else changes it before the transaction ends."""
    row = (await session.execute(_LOCKED, {"id": id})).one_or_none()
    return None if row is None else Satellite(*row)


async def update(
    session: AsyncSession, id: UUID, profile: Profile, *, offline_after_seconds: float | None = None
) -> Satellite:
    """Describe a satellite, which is locked, anew. Raises `sqlalchemy.exc.IntegrityError` when the name is taken."""
    values = {"id": id, **_written(profile), "offline_after_seconds": offline_after_seconds}
    return Satellite(*(await session.execute(_UPDATE, values)).one())


async def rotate(session: AsyncSession, id: UUID, digest: bytes, *, claim: bool = False) -> Satellite | None:
    """Put another token's digest in place; with `claim`, only if nobody was given a token yet."""
    values = {"id": id, "digest": digest, "claim": claim}
    row = (await session.execute(_ROTATE, values)).one_or_none()
    return None if row is None else Satellite(*row)


async def give_no_token(session: AsyncSession, id: UUID) -> None:
    """Note that nobody was given the satellite's token: it can be claimed, once."""
    await session.execute(_UNCLAIMED, {"id": id})


async def delete(session: AsyncSession, id: UUID) -> str | None:
    """Remove a satellite, and answer its name; None when there is none."""
    name: str | None = (await session.execute(_DELETE, {"id": id})).scalar_one_or_none()
    return name


async def credentials(session: AsyncSession, ids: Sequence[UUID]) -> dict[UUID, Credentials]:
    """The credentials of those of `ids` that exist."""
    rows = await session.execute(_CREDENTIALS, {"ids": list(ids)})
    return {
        row.id: Credentials(bytes(row.token_digest), row.offline_after_seconds, _profile(row)) for row in rows
    }


async def find(
    session: AsyncSession,
    *,
    ids: Collection[UUID] | None = None,
    tags: Collection[str] | None = None,
    selector: Selector | None = None,
    names: Collection[str] | None = None,
) -> list[KnownSatellite]:
    """The satellites that have one of the ids, names or tags, or are selected; all if nothing is given. By name."""
    everyone = ids is None and tags is None and selector is None and names is None
    selected = [] if selector is None else await _selected(session, selector)
    values = {
        "everyone": everyone,
        "ids": [*(ids or ()), *selected],
        "tags": list(tags or ()),
        "names": list(names or ()),
    }
    rows = (await session.execute(_FIND, values)).all()
    found: list[KnownSatellite] = []
    for begin in range(0, len(rows), READ_AT_ONCE):
        found += map(_known, rows[begin : begin + READ_AT_ONCE])
        await asyncio.sleep(0)
    return found


async def presence(session: AsyncSession) -> Presence:
    """Which satellites are offline, and what that stands on."""
    fleet = (await session.execute(_PRESENCE)).one()
    # Lists instead of rows: after an outage they are thousands, and each page of checks asks for them.
    absent = map(Absence, fleet.ids or (), fleet.since or (), fleet.concluded or ())
    return Presence(fleet.heard_until, fleet.steady_since, list(absent))


async def names(
    session: AsyncSession, ids: Collection[UUID], *, reach: Collection[Collection[str]] | None = None
) -> dict[UUID, str]:
    """The names of those of `ids` that exist, and are within the `reach` if one is given."""
    rows = await session.execute(_NAMES, {"ids": list(ids), "reach": reach_wire(reach)})
    return {row.id: row.name for row in rows}


async def _selected(session: AsyncSession, selector: Selector) -> list[UUID]:
    """The ids of those that are selected: the database looks for values of labels, and the rest is decided here."""
    texts = [sorted(one.texts) for one in selector.requirements if one.texts is not None]
    carried = " AND ".join(f"carried && CAST(:texts{n} AS text[])" for n in range(len(texts)))
    query = text(f"SELECT id, tags, labels FROM satellite_satellites WHERE {carried or 'true'}")  # noqa: S608
    rows = await session.execute(query, {f"texts{n}": some for n, some in enumerate(texts)})
    return [id for id, tags, labels in rows if selector.matches(merged(tags, labels))]


def _profile(row: Any) -> Profile:
    return Profile(row.name, row.region, tuple(row.tags), row.labels, row.vars)


def _known(row: Any) -> KnownSatellite:
    told = _profile(row).of(row.id)
    return KnownSatellite(
        told.id,
        told.tags,
        name=told.name,
        region=told.region,
        labels=told.labels,
        vars=told.vars,
        status=row.status,
    )


def _written(profile: Profile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "region": profile.region,
        "tags": list(profile.tags),
        "labels": json.dumps(dict(profile.labels or {})),
        "vars": json.dumps(dict(profile.vars or {})),
    }


def reach_wire(reach: Collection[Collection[str]] | None) -> str | None:
    """A reach as `WITHIN_REACH` takes it."""
    return None if reach is None else json.dumps([sorted(one) for one in reach])
