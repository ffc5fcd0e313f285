"""A satellite that has gone bad: `URLS ID TOKEN SEED`. It says what looks like frames, as fast as it is let."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import uuid
from typing import Any

from ringfence_satellite.protocol import Authenticate
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

CHECK = "00000000-0000-4000-8000-000000000000"
INSTANTS = ("2026-11-27T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z", "now", "", 7)
NUMBERS = (0, -1, 1, 2**31, 2**63, -(2**63), 1e300, 0.1, float("inf"), float("nan"), True, None)
TEXTS = (
    "",
    "x",
    "healthy",
    "unhealthy",
    "a\0b",
    "\ud800",
    "x" * 70_000,
    "{}",
    CHECK,
    "🜨",
    "../../etc/passwd",
)


def anything(chance: random.Random, depth: int = 0) -> Any:
    """Any JSON."""
    kinds: list[Any] = [chance.choice(NUMBERS), chance.choice(TEXTS), chance.choice(INSTANTS)]
    if depth < 4:
        kinds += [
            [anything(chance, depth + 1) for _ in range(chance.randrange(4))],
            {chance.choice(TEXTS): anything(chance, depth + 1) for _ in range(chance.randrange(4))},
        ]
    return chance.choice(kinds)


def frame(chance: random.Random) -> dict[str, Any]:
    """What a satellite says, right in all but a field or two."""
    made: dict[str, Any] = chance.choice(
        [
            {
                "type": "heartbeat",
                "version": "1",
                "uptimeSeconds": 1,
                "capabilities": {"a": {"available": True}},
            },
            {
                "type": "sandbox_policy_applied",
                "revision": 1,
                "enforced": {"network": True},
                "downgrades": [],
            },
            {
                "type": "result",
                "configId": CHECK,
                "systemId": "web-1",
                "status": "healthy",
                "latencyMs": 1,
                "result": {"value": 1},
                "executedAt": INSTANTS[0],
                "resultId": str(uuid.UUID(int=chance.getrandbits(128))),
            },
            {"type": "run_result", "runId": CHECK, "exitCode": 0, "stdout": "x", "sandbox": {}},
            {"type": "request_run_secrets", "requestId": "r", "configId": CHECK},
            {"type": "strategy_error", "strategyId": CHECK, "message": "m"},
            {"type": "authenticate", "clientId": CHECK, "token": "guess"},
            {"type": "of the future", "field": 1},
        ]
    )
    for field in chance.sample(sorted(made), chance.choice((0, 0, 1, 1, 2))):
        if field != "type":
            made[field] = anything(chance)
    return made


async def visit(url: str, satellite: str, token: str, chance: random.Random) -> None:
    """One connection, to its end."""
    async with connect(f"{url}/api/ws/satellite".replace("http", "ws", 1), compression=None) as socket:
        await socket.send(Authenticate(client_id=satellite, token=token, version="1").encode())
        while True:
            match chance.randrange(40):
                case 0:
                    await socket.ping()
                case 1:
                    await socket.send(b"\x00\xff not text")
                case 2:
                    await socket.close(chance.choice((1000, 4000, 4999)), chance.choice(("", "bye", "a\0b")))
                case _:
                    await socket.send(json.dumps(frame(chance)))


async def main(urls: str, satellite: str, token: str, seed: str) -> None:
    """Come again whenever it is thrown out."""
    chance = random.Random(seed)
    # Beside tests that have deadlines, it takes what they leave.
    os.nice(10)
    while True:
        try:
            await visit(chance.choice(urls.split(",")), satellite, token, chance)
        except (OSError, WebSocketException, TimeoutError, UnicodeError):
            # It may be waited for, but not for long.
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
