"""An instance under test, as its administrators and its satellites see it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from ringfence.host import Host
from ringfence.testing import client
from ringfence.web.server import listen, serving, url_of
from ringfence_satellite.plugin import SatellitePlugin
from ringfence_satellite.protocol import Authenticate, Frame, RunFinished, SandboxPolicyApplied
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.waiting import in_time

POLICY = "/api/script-packages/sandbox-policy"
SATELLITES = "/api/satellite/satellites"
RUNS = "/api/satellite/runs"

_seconds = itertools.count(100)


def another_policy() -> dict[str, Any]:
    """A policy that nobody has set before; it denies the network."""
    return {"network": {"mode": "deny"}, "resources": {"cpuSeconds": next(_seconds)}}


@dataclass(slots=True)
class Peer:
    """A satellite whose every word a test chooses."""

    socket: ClientConnection

    async def say(self, frame: Frame | str) -> None:
        await self.socket.send(frame if isinstance(frame, str) else frame.encode())

    async def hear(self, kind: str | None = None) -> dict[str, Any]:
        """The next frame, of the type `kind` if that is given; it must be the very next."""
        async with in_time(f"the core says {kind or 'something'}"):
            frame: dict[str, Any] = json.loads(await self.socket.recv())
        assert kind is None or frame["type"] == kind, frame
        return frame

    async def applied(self, revision: int) -> None:
        await self.say(SandboxPolicyApplied(revision=revision, enforced={"network": True}))

    async def answer_run(self, stdout: str = "done\n") -> dict[str, Any]:
        """Answer the run that is asked for next; the answer is what was asked."""
        asked = await self.hear("run_script")
        outcome = {"exitCode": 0, "stdout": stdout, "sandbox": {"enforced": {"network": True}}}
        await self.say(RunFinished.of(asked["runId"], outcome))
        return asked

    async def closed(self) -> tuple[int, str]:
        """How the core closes the connection; frames that come before are dropped."""
        async with in_time("the core closes the connection"):
            try:
                while True:
                    await self.socket.recv()
            except ConnectionClosed:
                return self.socket.close_code or 0, self.socket.close_reason or ""


@dataclass(frozen=True, slots=True)
class Registered:
    """A registered satellite, and its token."""

    id: str
    token: str
    name: str = ""


@dataclass(slots=True)
class Instance:
    """A running host, its address, and an administrator's client."""

    host: Host
    url: str
    api: httpx.AsyncClient
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def plugin(self) -> SatellitePlugin:
        """The satellite plugin, for tests that look behind the API."""
        (found,) = (one.plugin for one in self.host.plugins if isinstance(one.plugin, SatellitePlugin))
        return found

    async def register(self, name: str | None = None, **fields: object) -> Registered:
        """Register a satellite: by default as edge-1, and the next one as edge-2."""
        chosen = f"edge-{next(self.numbers)}" if name is None else name
        answer = await self.api.post(SATELLITES, json={"name": chosen, "region": "eu", **fields})
        assert answer.status_code == 201, answer.text
        return Registered(answer.json()["satellite"]["id"], answer.json()["token"], chosen)

    async def show(self, satellite: Registered) -> dict[str, Any]:
        answer = await self.api.get(f"{SATELLITES}/{satellite.id}")
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    async def until(self, satellite: Registered, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The satellite as the API shows it, once `holds` is true of that."""
        shown: dict[str, Any] = {}
        async with in_time(lambda: f"the satellite is as wanted; it is {shown}"):
            while not holds(shown := await self.show(satellite)):
                await asyncio.sleep(0.03)
        return shown

    async def set_policy(self, partial: dict[str, Any]) -> int:
        """Write the policy; answers its revision."""
        answer = await self.api.put(POLICY, json={"policy": partial}, headers={"If-Match": "*"})
        assert answer.status_code == 200, answer.text
        return int(answer.json()["revision"])

    async def revision(self) -> int:
        """The revision that the policy is at."""
        return int((await self.api.get(POLICY)).json()["revision"])

    async def ask(self, satellite: Registered, *, wait: float = 0, **fields: object) -> httpx.Response:
        """Ask for a run; the answer as it comes."""
        body = {"kind": "shell", "script": "echo done", "timeoutMs": 5000, **fields}
        return await self.api.post(
            f"{SATELLITES}/{satellite.id}/runs", json=body, params={"wait": wait}, timeout=90
        )

    async def run(self, satellite: Registered, **fields: object) -> dict[str, Any]:
        """Ask for a run; what it is when it has ended."""
        answer = await self.ask(satellite, wait=20, **fields)
        assert answer.status_code == 201, answer.text
        return await self.ended(answer.json())

    async def ended(self, run: dict[str, Any]) -> dict[str, Any]:
        """A run when it has ended."""
        return await self.run_until(run, lambda one: one["state"] == "ended", wait=20)

    async def run_until(
        self, run: dict[str, Any], holds: Callable[[dict[str, Any]], bool], *, wait: float = 0
    ) -> dict[str, Any]:
        """A run as the API shows it, once `holds` is true of that."""
        shown = run
        async with in_time(lambda: f"the run is as wanted; it is {shown}"):
            while not holds(shown):
                answer = await self.api.get(f"{RUNS}/{run['id']}", params={"wait": wait}, timeout=90)
                assert answer.status_code == 200, answer.text
                shown = answer.json()
                await asyncio.sleep(0 if wait else 0.02)
        return shown

    @asynccontextmanager
    async def peer(self, satellite: Registered | None = None, **options: Any) -> AsyncIterator[Peer]:
        """A raw connection; if a satellite is given, it has authenticated as that."""
        address = self.url.replace("http", "ws") + "/api/ws/satellite"
        async with connect(address, compression=None, close_timeout=1, **options) as socket:
            peer = Peer(socket)
            if satellite is not None:
                await peer.say(Authenticate(client_id=satellite.id, token=satellite.token, version="1"))
            yield peer

    @asynccontextmanager
    async def connected(self, satellite: Registered, **options: Any) -> AsyncIterator[Peer]:
        """A satellite that has been welcomed."""
        async with self.peer(satellite, **options) as peer:
            await peer.hear("authenticated")
            yield peer


@asynccontextmanager
async def serve_host(host: Host) -> AsyncIterator[Instance]:
    """Serve a running host on a free port."""
    with listen("127.0.0.1", 0) as listener:
        async with serving(host.app, listener), client(host) as api:
            yield Instance(host, url_of(listener), api)
