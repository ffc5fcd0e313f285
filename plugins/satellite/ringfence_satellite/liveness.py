"""Who has fallen silent: found from the database for the whole fleet, and from memory for the sockets of
this instance.

The online to offline edge is the moment in which a satellite's last heartbeat becomes older than its
threshold without a goodbye. Any instance may find it; that the heartbeat which it was found for is written
down in the same transaction as the event makes it be told once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import structlog
from ringfence import PluginContext
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ringfence_satellite.connection import Connection
from ringfence_satellite.hooks import SatelliteHeartbeatLost, satellite_heartbeat_lost, stream_of
from ringfence_satellite.protocol import CloseCode
from ringfence_satellite.relay import Relay

LOOK_SECONDS = 2.0
STUCK_SECONDS = 30.0
"""For how long a satellite may leave unread what it was sent."""
BATCH = 200

_FIND_LOST = text("""
    UPDATE satellite_satellites AS s SET lost_heartbeat_at = s.last_heartbeat_at
      FROM (SELECT id FROM satellite_satellites
             WHERE goodbye_at IS NULL AND lost_heartbeat_at IS DISTINCT FROM last_heartbeat_at
               AND last_heartbeat_at < now() - make_interval(secs => offline_after_seconds)
             ORDER BY id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) AS silent
     WHERE s.id = silent.id
    RETURNING s.id, s.name, s.offline_after_seconds
""")
_log = structlog.get_logger("ringfence.satellite.liveness")


async def find_lost(context: PluginContext) -> int:
    """Tell of every satellite that has fallen silent and has not been told of; answers how many.

    Raises what the database raises; nothing is told then, and the next look finds the same again.
    """
    async with context.sessions.begin() as session:
        lost = list(await session.execute(_FIND_LOST, {"limit": BATCH}))
        facts = [
            SatelliteHeartbeatLost(
                satellite_id=row.id, name=row.name, offline_after_seconds=row.offline_after_seconds
            )
            for row in lost
        ]
        told = [(stream_of(fact.satellite_id), fact) for fact in facts]
        await context.emit_hooks(satellite_heartbeat_lost, told, session=session)
    return len(lost)


def end_the_dead(connections: Iterable[Connection], now: float) -> None:
    """End those that have sent nothing for longer than their satellite's threshold, or do not read.
    `now`: monotonic.
    """
    for connection in connections:
        if connection.stuck_since is not None and now - connection.stuck_since > STUCK_SECONDS:
            connection.end(CloseCode.TOO_SLOW, f"nothing was read for {STUCK_SECONDS:g} s")
        elif now - connection.heard_at > connection.offline_after_seconds:
            connection.end(CloseCode.SILENT, f"nothing was heard for {connection.offline_after_seconds:g} s")


async def watch_until_cancelled(context: PluginContext, relay: Relay) -> None:
    """Look again and again. A database that fails is waited for."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        end_the_dead(relay.admitted(), time.monotonic())
        try:
            while await find_lost(context) == BATCH:
                pass
        except (SQLAlchemyError, OSError) as error:
            _log.warning("cannot look for silent satellites", error=f"{type(error).__name__}: {error}")
