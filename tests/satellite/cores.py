"""A core to test agents against: a real WebSocket server that a test drives frame by frame."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ringfence_satellite.protocol import Frame
from websockets.asyncio.server import Server, ServerConnection, serve

from tests.waiting import in_time


@dataclass(slots=True)
class Visit:
    """One connection of an agent, and what it has said so far."""

    socket: ServerConnection
    authenticate: dict[str, Any]
    said: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    async def send(self, frame: Frame | str) -> None:
        """Say something to the agent."""
        await self.socket.send(frame if isinstance(frame, str) else frame.encode())

    async def hear(self, kind: str) -> dict[str, Any]:
        """The next frame of type `kind`; heartbeats and others that come before it are dropped."""
        async with in_time(f"the agent says {kind}"):
            while True:
                frame = await self.said.get()
                if frame["type"] == kind:
                    return frame

    async def closed(self) -> tuple[int, str]:
        """How the connection was closed, once it is."""
        async with in_time("the connection is closed"):
            await self.socket.wait_closed()
        return self.socket.close_code or 0, self.socket.close_reason or ""


@dataclass(slots=True)
class ScriptedCore:
    """A core without a mind of its own. `url` is what an agent is given."""

    port: int
    visits: asyncio.Queue[Visit] = field(default_factory=asyncio.Queue)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def visit(self) -> Visit:
        """The next connection that has said who it is."""
        async with in_time("an agent comes"):
            return await self.visits.get()


@asynccontextmanager
async def scripted_core() -> AsyncIterator[ScriptedCore]:
    """A core that listens on a free port until the block ends."""
    core: ScriptedCore

    async def talk(socket: ServerConnection) -> None:
        visit = Visit(socket, json.loads(await socket.recv()))
        core.visits.put_nowait(visit)
        async for message in socket:
            visit.said.put_nowait(json.loads(message))

    async with serve(talk, "127.0.0.1", 0) as server:
        core = ScriptedCore(_port(server))
        yield core


def _port(server: Server) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])
