"""Peers of the first release that spoke the satellite protocol, in both roles, over real sockets.

Nothing of today's protocol is imported here: what that release wrote is written out, and what it read is read as
strictly as it did: unknown types and fields are passed over, and what it knew must be there and be of the type that it
knew. This file must not follow the protocol.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve

from tests.waiting import in_time

Fields = dict[str, tuple[type | tuple[type, ...], bool]]
"""What a frame has: the types that a field may be of, and whether it must be there."""

FROM_CORE: dict[str, Fields] = {
    "authenticated": {
        "satelliteId": (str, True),
        "assignments": (list, False),
        "sandboxPolicy": (dict, False),
        "sandboxPolicyRevision": (int, False),
        "scriptPackagesLockfileHash": (str, False),
    },
    "auth_failed": {"reason": (str, True)},
    "sandbox_policy": {"policy": (dict, True), "revision": (int, True)},
    "config_updated": {"assignments": (list, True), "scriptPackagesLockfileHash": (str, False)},
    "refresh_script_packages": {"lockfileHash": (str, True)},
    "run_script": {
        "runId": (str, True),
        "kind": (str, True),
        "script": (str, True),
        "timeoutMs": (int, False),
        "secretEnv": (dict, False),
    },
    "run_secrets": {"requestId": (str, True), "env": (dict, False), "error": (str, False)},
    "shutdown": {"reason": (str, True)},
}
FROM_SATELLITE: dict[str, Fields] = {
    "authenticate": {
        "clientId": (str, True),
        "token": (str, True),
        "version": (str, False),
        "capabilities": (dict, False),
    },
    "heartbeat": {
        "version": (str, False),
        "uptimeSeconds": ((int, float), False),
        "capabilities": (dict, False),
    },
    "sandbox_policy_applied": {
        "revision": (int, True),
        "enforced": (dict, False),
        "downgrades": (list, False),
    },
    "result": {
        "configId": (str, True),
        "systemId": (str, True),
        "status": (str, True),
        "latencyMs": ((int, float), False),
        "result": (dict, False),
        "executedAt": (str, True),
    },
    "run_result": {"runId": (str, True), "error": (str, False)},
    "request_run_secrets": {"requestId": (str, True), "configId": (str, True), "collectorId": (str, False)},
    "strategy_error": {"strategyId": (str, True), "message": (str, True)},
}


class NotUnderstood(AssertionError):
    """The first release would have hung up on this."""


def read(text: str, frames: dict[str, Fields]) -> dict[str, Any] | None:
    """A frame as the first release saw it; None for one that it passed over. Raises `NotUnderstood`."""
    frame: dict[str, Any] = json.loads(text)
    known = frames.get(frame["type"])
    if known is None:
        return None
    for name, (kinds, must) in known.items():
        value = frame.get(name)
        if value is None and must:
            raise NotUnderstood(f"{frame['type']} without {name}")
        if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise NotUnderstood(f"{frame['type']}: {name} is {value!r}")
    return {"type": frame["type"], **{name: frame[name] for name in known if name in frame}}


@dataclass(slots=True)
class OldSatellite:
    """An agent of the first release: it obeys a policy, answers runs, and knows nothing of assignments."""

    socket: ClientConnection
    applied: list[int] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)

    async def live(self) -> None:
        """Do what it did, until the core hangs up."""
        async for message in self.socket:
            frame = read(str(message), FROM_CORE)
            match frame:
                case {"type": "authenticated", "sandboxPolicy": _, "sandboxPolicyRevision": revision}:
                    await self._apply(revision)
                    await self.socket.send('{"type":"heartbeat","version":"0.1.0","uptimeSeconds":1.5}')
                case {"type": "sandbox_policy", "revision": revision}:
                    await self._apply(revision)
                case {"type": "run_script", "runId": run_id, "script": script}:
                    self.ran.append(script)
                    outcome = {
                        "exitCode": 0,
                        "stdout": "old\n",
                        "stderr": "",
                        "timedOut": False,
                        "sandbox": {},
                    }
                    await self.socket.send(json.dumps({"type": "run_result", **outcome, "runId": run_id}))

    async def _apply(self, revision: int) -> None:
        self.applied.append(revision)
        enforced = {
            "resources": True,
            "filesystem": True,
            "network": True,
            "privilege": True,
            "syscalls": True,
        }
        await self.socket.send(
            json.dumps(
                {
                    "type": "sandbox_policy_applied",
                    "revision": revision,
                    "enforced": enforced,
                    "downgrades": [],
                }
            )
        )


@asynccontextmanager
async def old_satellite(url: str, client_id: str, token: str) -> AsyncIterator[OldSatellite]:
    """A satellite of the first release at a core of today."""
    async with connect(url.replace("http", "ws", 1) + "/api/ws/satellite", compression=None) as socket:
        hello = {"type": "authenticate", "clientId": client_id, "token": token, "version": "0.1.0"}
        await socket.send(json.dumps({**hello, "capabilities": {"platform": "linux"}}))
        satellite = OldSatellite(socket)
        async with asyncio.TaskGroup() as tasks:
            living = tasks.create_task(satellite.live())
            yield satellite
            living.cancel()


@dataclass(slots=True)
class OldCore:
    """A core of the first release: it acknowledges no results, and replaces no policy."""

    url: str = ""
    policy: dict[str, Any] = field(default_factory=dict)
    revision: int = 0
    assignments: list[dict[str, Any]] = field(default_factory=list)
    heard: list[dict[str, Any]] = field(default_factory=list)
    broken: list[NotUnderstood] = field(default_factory=list)
    sockets: set[ServerConnection] = field(default_factory=set)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, socket: ServerConnection) -> None:
        self.sockets.add(socket)
        async for message in socket:
            try:
                frame = read(str(message), FROM_SATELLITE)
            except NotUnderstood as error:
                self.broken.append(error)
                await socket.close(4400, str(error))
                frame = None
            if frame is None:
                continue
            if frame["type"] == "authenticate":
                welcome = {
                    "type": "authenticated",
                    "satelliteId": frame["clientId"],
                    "assignments": self.assignments,
                    "sandboxPolicy": self.policy,
                    "sandboxPolicyRevision": self.revision,
                }
                await socket.send(json.dumps(welcome))
            async with self._changed:
                self.heard.append(json.loads(message))
                self._changed.notify_all()

    async def say(self, frame: dict[str, Any]) -> None:
        for socket in self.sockets:
            await socket.send(json.dumps(frame))

    async def hear(self, kind: str, **members: Any) -> dict[str, Any]:
        """The first frame of this type, with these members, that was ever said here."""

        def found() -> dict[str, Any] | None:
            wanted = {"type": kind, **members}
            return (
                next((one for one in self.heard if wanted.items() <= one.items()), None)
                if not self.broken
                else {}
            )

        async with in_time("the frame that is wanted"), self._changed:
            await self._changed.wait_for(lambda: found() is not None)
        assert not self.broken, self.broken
        return found() or {}


@asynccontextmanager
async def old_core(policy: dict[str, Any]) -> AsyncIterator[OldCore]:
    """A core of the first release on a free port, under whose policy today's agents are."""
    core = OldCore(policy=policy)
    async with serve(core.serve, "127.0.0.1", 0, compression=None) as server:
        core.url = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield core
