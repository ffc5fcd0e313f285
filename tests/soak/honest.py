"""A satellite that does as it should, and remembers all that it did, so that a test can compare."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ringfence_satellite.protocol import Authenticate, CheckResult, CloseCode, Heartbeat, SandboxPolicyApplied
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tests.satellite.instances import Registered

RESULT_SECONDS = 1.0
HEARTBEAT_SECONDS = 1.0


@dataclass(slots=True)
class Honest:
    """It comes back whenever it is cut off, and sends each result until it is told that it is kept."""

    satellite: Registered
    urls: list[str]
    chance: random.Random
    held: int = 0
    """The revision of the policy that it has."""
    assigned: list[dict[str, Any]] = field(default_factory=list)
    sent: dict[str, str] = field(default_factory=dict)
    """The result of each id that it has made so far."""
    waiting: dict[str, CheckResult] = field(default_factory=dict)
    """Those that nobody has acknowledged yet."""
    refused: list[str] = field(default_factory=list)
    went_down: list[tuple[int, int]] = field(default_factory=list)
    closed: Counter[int] = field(default_factory=Counter)
    makes: bool = True
    """Whether it goes on to make results."""

    async def live(self) -> None:
        """Be there, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._make())
            while True:
                with contextlib.suppress(OSError, TimeoutError, WebSocketException):
                    address = f"{self.chance.choice(self.urls)}/api/ws/satellite".replace("http", "ws", 1)
                    async with connect(address, compression=None, close_timeout=1) as socket:
                        await self._visit(socket)
                await asyncio.sleep(self.chance.uniform(0.1, 0.5))

    async def _visit(self, socket: ClientConnection) -> None:
        who = Authenticate(client_id=self.satellite.id, token=self.satellite.token, version="1")
        await socket.send(who.encode())
        saying = asyncio.create_task(self._say(socket))
        try:
            async for message in socket:
                await self._hear(socket, json.loads(message))
        except ConnectionClosed:
            pass
        finally:
            saying.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                await saying
            self.closed[socket.close_code or CloseCode.FAULT] += 1

    async def _say(self, socket: ClientConnection) -> None:
        said: set[str] = set()
        while True:
            await socket.send(Heartbeat().encode())
            for result_id, report in list(self.waiting.items()):
                if result_id not in said:
                    said.add(result_id)
                    await socket.send(report.encode())
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _hear(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        if (revision := frame.get("sandboxPolicyRevision", frame.get("revision"))) is not None:
            if revision < self.held:
                self.went_down.append((self.held, revision))
            self.held = revision
            await socket.send(SandboxPolicyApplied(revision=revision, enforced={"network": True}).encode())
        if "assignments" in frame:
            self.assigned = frame["assignments"]
        if frame["type"] == "result_ack":
            self.waiting.pop(frame["resultId"], None)
            if not frame["accepted"]:
                self.refused.append(frame["resultId"])

    async def _make(self) -> None:
        while True:
            await asyncio.sleep(RESULT_SECONDS)
            if self.makes and self.assigned:
                result_id, text = str(uuid.uuid4()), f"result {len(self.sent)}"
                self.sent[result_id] = text
                self.waiting[result_id] = CheckResult(
                    config_id=self.assigned[0]["configId"],
                    system_id="web-1",
                    status="healthy",
                    latency_ms=1,
                    result={"message": text},
                    executed_at=dt.datetime.now(dt.UTC).isoformat(),
                    result_id=result_id,
                )
