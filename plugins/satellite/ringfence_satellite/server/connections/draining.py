"""Sending satellites elsewhere before an instance stops: spread over time, so that the others are not overrun.

A satellite that is told so connects to another instance, and is not taken to be offline meanwhile. Its runs go on. One
of a release that ends its runs with the connection is sent away when they are over, or when the instance stops.
"""

from __future__ import annotations

import asyncio
import random

from ringfence.web import TextMessage

from ringfence_satellite.protocol import CloseCode, Shutdown
from ringfence_satellite.server.connections.connection import Connection
from ringfence_satellite.server.connections.relay import Relay

PER_SECOND = 200.0
"""How many satellites are sent away in a second: what the others let in easily (see benchmarks/relay.py)."""
LOOK_SECONDS = 0.05


def say_goodbye(connection: Connection, reason: str) -> None:
    """Have a satellite connect again, and end its connection to this instance."""
    connection.send(TextMessage(Shutdown(reason=reason).encode()))
    connection.end(CloseCode.GOING_AWAY, reason)


def spread_seconds(satellites: int, *, most: float) -> float:
    """Over how long so many satellites are sent away."""
    return min(satellites / PER_SECOND, most)


async def send_all_away(relay: Relay, reason: str, *, most_seconds: float) -> None:
    """Send every satellite away at a moment of its own within `most_seconds`; returns when none is left."""
    connections = list(relay.admitted())
    seconds = spread_seconds(len(connections), most=most_seconds)
    moments = sorted(random.uniform(0.0, seconds) for _ in connections)  # noqa: S311  (not for secrets)
    began = asyncio.get_running_loop().time()
    for connection, moment in zip(connections, moments, strict=True):
        await asyncio.sleep(began + moment - asyncio.get_running_loop().time())
        if not connection.ends_runs:
            say_goodbye(connection, reason)
    # Those who were let in while it began, and those whose runs are not over yet.
    while left := relay.admitted():
        for connection in left:
            if connection.ending is None and not connection.ends_runs:
                say_goodbye(connection, reason)
        await asyncio.sleep(LOOK_SECONDS)
