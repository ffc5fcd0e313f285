"""How far the sets of packages are on satellites: reported often, written in batches, and shown.

It is kept in a table of its own and in no event: the newest report of a set takes the place of the one before, also
while it waits to be written, so that what waits is bounded by what satellites are assigned. What one is assigned is
written before it says anything, so that it counts from then on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import UUID

import structlog
from ringfence import PluginContext
from ringfence.redaction import describe
from ringfence.web import Principal
from ringfence_script_packages.service import Held, HeldSet
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ringfence_satellite.protocol import ScriptPackageSyncState
from ringfence_satellite.server.connections.connection import Connection
from ringfence_satellite.server.satellites import WITHIN_REACH, reach_wire
from ringfence_satellite.service import READ

WRITE_SECONDS = 0.5
"""How long a report waits for company."""
RETRY_SECONDS = 2.0
BATCH = 500
LACKING_SHOWN = 100

_WRITE = text("""
    INSERT INTO satellite_packages AS p (satellite_id, set_name, lock_hash, state, have, wanted, error)
    SELECT s.id, r.set, r.lock, r.state, r.bytes, r.total, r.error
      FROM jsonb_to_recordset(CAST(:rows AS jsonb))
           AS r(satellite uuid, set text, lock text, state text, bytes bigint, total bigint, error text)
      JOIN satellite_satellites AS s ON s.id = r.satellite
     ORDER BY s.id, r.set
    ON CONFLICT (satellite_id, set_name) DO UPDATE
       SET lock_hash = excluded.lock_hash, state = excluded.state, have = excluded.have, wanted = excluded.wanted,
           error = excluded.error, reported_at = now()
""")
_FORGET = text("""
    DELETE FROM satellite_packages AS p
     USING jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(satellite uuid, sets jsonb)
     WHERE p.satellite_id = r.satellite AND NOT jsonb_exists(r.sets, p.set_name)
""")
_WANT = text("""
    INSERT INTO satellite_packages AS p (satellite_id, set_name, lock_hash, state, have, wanted)
    SELECT s.id, one.key, one.value, 'pending', 0, 0
      FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(satellite uuid, sets jsonb)
      JOIN satellite_satellites AS s ON s.id = r.satellite
     CROSS JOIN jsonb_each_text(r.sets) AS one
     ORDER BY s.id, one.key
    ON CONFLICT (satellite_id, set_name) DO UPDATE
       SET lock_hash = excluded.lock_hash, state = 'pending', have = 0, wanted = 0, error = NULL, reported_at = now()
     WHERE p.lock_hash <> excluded.lock_hash
""")
_STATE_OF = """
    CASE WHEN p.lock_hash = {lock} AND p.state = 'ready' THEN 'ready' WHEN s.connection IS NULL THEN 'offline'
         WHEN p.lock_hash = {lock} THEN p.state ELSE 'pending' END
"""
_STATE = _STATE_OF.format(lock=":lock")
_COUNTS = text(f"""
    SELECT {_STATE} AS state, count(*) AS count
      FROM satellite_packages AS p JOIN satellite_satellites AS s ON s.id = p.satellite_id
     WHERE p.set_name = :name AND {WITHIN_REACH} GROUP BY 1
""")  # noqa: S608
_ALL_COUNTS = text(f"""
    SELECT p.set_name, {_STATE_OF.format(lock="c.value")} AS state, count(*) AS count
      FROM satellite_packages AS p JOIN satellite_satellites AS s ON s.id = p.satellite_id
      JOIN jsonb_each_text(CAST(:current AS jsonb)) AS c ON c.key = p.set_name
     WHERE {WITHIN_REACH} GROUP BY 1, 2 ORDER BY 1, 2
""")  # noqa: S608
_LACKING = text(f"""
    SELECT s.name, p.lock_hash, {_STATE} AS state, p.have, p.wanted, p.error, p.reported_at
      FROM satellite_packages AS p JOIN satellite_satellites AS s ON s.id = p.satellite_id
     WHERE p.set_name = :name AND {_STATE} NOT IN ('ready', 'offline') AND {WITHIN_REACH}
     ORDER BY s.name LIMIT :most
""")  # noqa: S608
_ON = text(f"""
    SELECT p.set_name AS name, p.lock_hash, {_STATE_OF.format(lock="c.value")} AS state, p.have, p.wanted, p.error,
           p.reported_at
      FROM satellite_packages AS p JOIN satellite_satellites AS s ON s.id = p.satellite_id
      JOIN jsonb_each_text(CAST(:current AS jsonb)) AS c ON c.key = p.set_name
     WHERE s.id = :id AND {WITHIN_REACH} ORDER BY p.set_name LIMIT :most
""")  # noqa: S608
_log = structlog.get_logger("ringfence.satellite.packages")


class SyncStates:
    """Takes reports at once and writes them soon. Implements `PackageHolder`."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._assigned: dict[UUID, Mapping[str, str]] = {}
        self._waiting: dict[tuple[UUID, str], dict[str, Any]] = {}
        self._wanted = asyncio.Event()

    def assigned(self, satellite: UUID, sets: Mapping[str, str]) -> None:
        """Note which sets a satellite is to have: of others, nothing is shown any more."""
        self._assigned[satellite] = sets
        self._wanted.set()

    def heard(self, connection: Connection, frame: ScriptPackageSyncState) -> bool:
        """Take a report. False for one of a set that the satellite is not assigned."""
        if frame.set not in (connection.packages or {}):
            return False
        row = {"satellite": str(connection.satellite), **frame.model_dump(mode="json")}
        self._waiting[connection.satellite, frame.set] = row
        self._wanted.set()
        return True

    async def write_until_cancelled(self) -> None:
        """Write what comes, for ever. A database that fails is waited for."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(WRITE_SECONDS)
            try:
                await self.write()
            except (SQLAlchemyError, OSError) as error:
                _log.warning("cannot write how far packages are; trying again", error=describe(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def write(self) -> None:
        """Write all that waits. Raises what the database raises; what was not written then waits on."""
        self._wanted.clear()
        while self._assigned:
            await self._write_assigned()
        while self._waiting:
            keys = sorted(self._waiting, key=lambda key: (str(key[0]), key[1]))[:BATCH]
            batch = {key: self._waiting.pop(key) for key in keys}
            try:
                async with self._context.sessions.begin() as session:
                    await session.execute(_WRITE, {"rows": json.dumps([*batch.values()])})
            except BaseException:
                self._waiting = batch | self._waiting
                self._wanted.set()
                raise

    async def _write_assigned(self) -> None:
        batch = {satellite: self._assigned.pop(satellite) for satellite in sorted(self._assigned)[:BATCH]}
        rows = json.dumps([{"satellite": str(id), "sets": dict(sets)} for id, sets in batch.items()])
        try:
            async with self._context.sessions.begin() as session:
                await session.execute(_FORGET, {"rows": rows})
                await session.execute(_WANT, {"rows": rows})
        except BaseException:
            self._assigned = batch | self._assigned
            self._wanted.set()
            raise

    async def held(self, name: str, lock: str, reader: Principal) -> Held:
        """See `PackageHolder`."""
        reach = reach_wire(reader.reach(READ))
        values = {"name": name, "lock": lock, "reach": reach}
        async with self._context.sessions() as session:
            counts = {row.state: cast("int", row[1]) for row in await session.execute(_COUNTS, values)}
            rows = await session.execute(_LACKING, {**values, "most": LACKING_SHOWN})
            return Held(counts, [_held(row) for row in rows])

    async def on(
        self, machine: str, current: Mapping[str, str], reader: Principal
    ) -> Sequence[HeldSet] | None:
        """See `PackageHolder`: a machine is a satellite, by its id."""
        try:
            id = UUID(machine)
        except ValueError:
            return None
        values = {
            "id": id,
            "current": json.dumps(dict(current)),
            "reach": reach_wire(reader.reach(READ)),
            "most": LACKING_SHOWN,
        }
        async with self._context.sessions() as session:
            return [_held(row) for row in await session.execute(_ON, values)] or None

    async def counts(self, current: Mapping[str, str], reader: Principal) -> dict[str, dict[str, int]]:
        """How many of the satellites that the reader may see are how far with each set and its current lock."""
        values = {"current": json.dumps(dict(current)), "reach": reach_wire(reader.reach(READ))}
        counts: dict[str, dict[str, int]] = {}
        async with self._context.sessions() as session:
            for name, state, count in await session.execute(_ALL_COUNTS, values):
                counts.setdefault(name, {})[state] = count
        return counts


def _held(row: Any) -> HeldSet:
    return HeldSet(row.name, row.lock_hash, row.state, row.have, row.wanted, row.error, row.reported_at)
