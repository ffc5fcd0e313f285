"""Who has fallen silent.

It is found from the database for the whole fleet, and from memory for the sockets of this instance.

The online to offline edge is the moment in which a satellite's last heartbeat becomes older than its
threshold without a goodbye. Any instance may find it; that the heartbeat which it was found for is written
down in the same transaction as the event makes it be told once.

Threat: it is not the satellite that is silent. The database was away, or an instance was paused, and what was heard
meanwhile is not written down: a look at that moment would raise a false alarm for everybody. Mechanism: each instance
notes up to which moment it has written down all that it heard, and since when it has done so without a break
(`satellite_listeners`). Silence is measured up to the moment that every instance has reached, and counts only while the
fleet could hear; all by the database's clock. Not covered: an instance that is cut off from a database that others
reach; after some seconds it counts as gone, and what it alone hears with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import structlog
from ringfence import PluginContext
from ringfence.redaction import describe
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ringfence_satellite.hooks import SatelliteHeartbeatLost, satellite_heartbeat_lost, stream_of
from ringfence_satellite.protocol import CloseCode
from ringfence_satellite.server.connections.connection import Connection
from ringfence_satellite.server.connections.relay import Relay
from ringfence_satellite.server.journal import WRITE_SECONDS, Journal

LOOK_SECONDS = 2.0
PAUSE_SECONDS = 6.0
"""An instance whose notes are so far apart could not write between: it, or the database, was paused."""
GONE_SECONDS = 15.0
"""How long an instance that does not write is waited for, while another one writes (as in `satellite_heard_until`)."""
LAG_SECONDS = 1.0
"""An event loop that comes back so much later than it was asked to was paused."""
TURNS = 10
"""How many turns of the event loop it takes, and more, until what lies in the sockets has come to the journal: a turn
reads every socket, and in the next ones the connections' tasks take what was read."""
STUCK_SECONDS = 30.0
"""For how long a satellite may leave unread what it was sent."""
BATCH = 200

_BY_ITSELF = {"isolation_level": "AUTOCOMMIT"}
"""Each statement is a transaction by itself, without the exchanges of BEGIN and COMMIT."""
_NOW = text("SELECT clock_timestamp()")
# Whoever joins a fleet that can hear, joins what it has heard; the first one has heard nothing yet.
_NOTE = text("""
    WITH swept AS (DELETE FROM satellite_listeners WHERE written_at < clock_timestamp() - interval '1 day'
                      AND instance <> :instance)
    INSERT INTO satellite_listeners AS own (instance, heard_until, steady_since, written_at)
    VALUES (:instance, :heard_until,
            coalesce((SELECT min(steady_since) FROM satellite_listeners
                       WHERE written_at > clock_timestamp() - make_interval(secs => :pause)), clock_timestamp()),
            clock_timestamp())
    ON CONFLICT (instance) DO UPDATE
       SET heard_until = excluded.heard_until, written_at = excluded.written_at,
           steady_since = CASE WHEN own.written_at < excluded.written_at - make_interval(secs => :pause)
                               THEN excluded.written_at ELSE own.steady_since END
""")
_LEAVE = text("DELETE FROM satellite_listeners WHERE instance = :instance")
_FIND_LOST = text("""
    UPDATE satellite_satellites AS s SET lost_heartbeat_at = s.last_heartbeat_at
      FROM (SELECT satellite.id FROM satellite_satellites AS satellite
             CROSS JOIN satellite_heard_until() AS fleet
              LEFT JOIN satellite_listeners AS its ON its.instance = satellite.instance
             CROSS JOIN LATERAL (
                   SELECT fleet.heard_until - make_interval(secs => offline_after_seconds) AS silent_since) AS look
             WHERE goodbye_at IS NULL AND lost_heartbeat_at IS DISTINCT FROM last_heartbeat_at
               AND last_heartbeat_at < look.silent_since
               AND fleet.steady_since <= look.silent_since
               AND (its.instance IS NULL OR its.steady_since <= look.silent_since
                    OR its.written_at < clock_timestamp() - make_interval(secs => :gone))
             ORDER BY satellite.id LIMIT :limit FOR NO KEY UPDATE OF satellite SKIP LOCKED) AS silent
     WHERE s.id = silent.id
    RETURNING s.id, s.name, s.offline_after_seconds
""")
_log = structlog.get_logger("ringfence.satellite.liveness")


async def note_heard(context: PluginContext, relay: Relay, journal: Journal) -> None:
    """Write down all that this instance has heard, and that it has. Raises what the database raises."""
    async with context.sessions.begin() as session:
        await session.connection(execution_options=_BY_ITSELF)
        # Before the journal is written: what is heard after this moment may not be in it.
        heard_until = (await session.execute(_NOW)).scalar_one()
    for _ in range(TURNS):
        await asyncio.sleep(0)
    for connection in relay.admitted():
        if connection.is_busy:
            journal.present(connection.satellite, connection.id)
    await journal.write()
    async with context.sessions.begin() as session:
        await session.connection(execution_options=_BY_ITSELF)
        await session.execute(
            _NOTE, {"instance": context.instance_id, "heard_until": heard_until, "pause": PAUSE_SECONDS}
        )


async def leave(context: PluginContext) -> None:
    """Be no longer waited for: this instance has written all that it heard. Raises what the database raises."""
    async with context.sessions.begin() as session:
        await session.execute(_LEAVE, {"instance": context.instance_id})


async def find_lost(context: PluginContext) -> int:
    """Tell of every satellite that has fallen silent and has not been told of; answers how many.

    Raises what the database raises; nothing is told then, and the next look finds the same again.
    """
    async with context.sessions.begin() as session:
        lost = list(await session.execute(_FIND_LOST, {"limit": BATCH, "gone": GONE_SECONDS}))
        facts = [
            SatelliteHeartbeatLost(
                satellite_id=row.id, name=row.name, offline_after_seconds=row.offline_after_seconds
            )
            for row in lost
        ]
        told = [(stream_of(fact.satellite_id), fact) for fact in facts]
        await context.emit_hooks(satellite_heartbeat_lost, told, session=session)
    return len(lost)


def end_the_dead(connections: Iterable[Connection], now: float, *, attentive_since: float) -> None:
    """End connections that have been silent for too long, or do not read.

    Those have sent nothing for longer than their satellite's threshold while this process listened. `now` and
    `attentive_since`: monotonic.
    """
    for connection in connections:
        stuck_since = connection.stuck_since
        if stuck_since is not None and now - max(stuck_since, attentive_since) > STUCK_SECONDS:
            connection.end(CloseCode.TOO_SLOW, f"nothing was read for {STUCK_SECONDS:g} s")
        elif connection.is_busy:
            # What it has said since cannot have been read.
            continue
        elif now - max(connection.heard_at, attentive_since) > connection.offline_after_seconds:
            connection.end(CloseCode.SILENT, f"nothing was heard for {connection.offline_after_seconds:g} s")


async def watch_until_cancelled(context: PluginContext, relay: Relay, journal: Journal) -> None:
    """Look again and again. A database that fails is waited for."""
    attentive_since = time.monotonic()
    while True:
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await note_heard(context, relay, journal)
                while await find_lost(context) == BATCH:
                    pass
        except (SQLAlchemyError, OSError) as error:
            _log.warning("cannot look for silent satellites", error=describe(error))
        while await _slept_for_too_long():
            # This process was paused. What was said meanwhile lies unread in its sockets, until the next look.
            attentive_since = time.monotonic()
        end_the_dead(relay.admitted(), time.monotonic(), attentive_since=attentive_since)


async def _slept_for_too_long() -> bool:
    """Wait for the next look; whether that took so long that nothing else was done in time either."""
    lay_down = time.monotonic()
    await asyncio.sleep(LOOK_SECONDS)
    return time.monotonic() - lay_down > LOOK_SECONDS + LAG_SECONDS
