"""Satellites in several regions, each of them spoken for over a connection of its own, as an agent does it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from ringfence.sandbox.capabilities.document import to_wire
from ringfence.sandbox.capabilities.found import Missing
from ringfence_satellite.protocol import (
    Authenticate,
    Heartbeat,
    RunAccepted,
    RunFinished,
    RunOutput,
    SandboxPolicyApplied,
)
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.sandbox.hosts import linux

VERSION = "1.4.2"
BEAT_SECONDS = 10.0
ENFORCED = {"network": True, "filesystem": True, "privilege": True, "resources": True, "syscalls": True}
NO_TUN = "uid 990 may not open /dev/net/tun"
"""What keeps one of them from letting scripts reach anything."""


@dataclass(frozen=True)
class Kind:
    """One satellite: where it is, what it is for, and how it fares."""

    name: str
    region: str
    labels: Mapping[str, str]
    state: str = "online"
    """`online`, `lost` (it was there once), `new` (never), `behind` on the policy, or `weak`: cannot enforce it."""


FLEET = (
    Kind("web-fra-1", "eu-central", {"role": "web", "env": "prod"}),
    Kind("web-fra-2", "eu-central", {"role": "web", "env": "prod"}),
    Kind("db-fra-1", "eu-central", {"role": "db", "env": "prod"}),
    Kind("queue-fra-1", "eu-central", {"role": "queue", "env": "prod"}, "behind"),
    Kind("web-iad-1", "us-east", {"role": "web", "env": "prod"}),
    Kind("web-iad-2", "us-east", {"role": "web", "env": "prod"}),
    Kind("db-iad-1", "us-east", {"role": "db", "env": "prod"}),
    Kind("batch-iad-1", "us-east", {"role": "batch", "env": "prod"}, "weak"),
    Kind("web-sin-1", "ap-southeast", {"role": "web", "env": "prod"}),
    Kind("db-sin-1", "ap-southeast", {"role": "db", "env": "prod"}, "lost"),
    Kind("build-fra-1", "eu-central", {"role": "build", "env": "staging"}),
    Kind("web-fra-staging", "eu-central", {"role": "web", "env": "staging"}),
    Kind("edge-gru-1", "sa-east", {"role": "edge", "env": "prod"}, "new"),
)


@dataclass
class Fleet:
    """The satellites that were made, by name, and their tokens."""

    api: httpx.AsyncClient
    url: str
    ids: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    async def register(self) -> None:
        """Make all of them."""
        for kind in FLEET:
            body = {"name": kind.name, "region": kind.region, "labels": dict(kind.labels)}
            answer = await self.api.post("/api/satellite/satellites", json=body)
            assert answer.is_success, answer.text
            self.ids[kind.name] = answer.json()["satellite"]["id"]
            self.tokens[kind.name] = answer.json()["token"]

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """All of those that are there are connected, and answer, for as long as the block runs."""
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            talking = []
            for kind in FLEET:
                if kind.state == "new":
                    continue
                socket = await stack.enter_async_context(self._connect())
                await socket.send(self._hello(kind).encode())
                if kind.state == "lost":
                    await socket.recv()
                    await socket.close()
                else:
                    talking.append(tasks.create_task(_talk(socket, kind)))
            yield
            for one in talking:
                one.cancel()

    def _connect(self) -> connect:
        return connect(
            f"{self.url.replace('http', 'ws')}/api/ws/satellite", compression=None, close_timeout=1
        )

    def _hello(self, kind: Kind) -> Authenticate:
        capabilities = linux()
        if kind.state == "weak":
            capabilities = replace(
                capabilities, tun=Missing(reason=NO_TUN), slirp4netns=Missing(reason=NO_TUN)
            )
        return Authenticate(
            client_id=self.ids[kind.name],
            token=self.tokens[kind.name],
            version=VERSION,
            capabilities=to_wire(capabilities),
        )


async def _talk(socket: ClientConnection, kind: Kind) -> None:
    """Answer what the host says, and send heartbeats meanwhile."""

    async def beat() -> None:
        uptime = 86_400.0
        while True:
            await socket.send(Heartbeat(version=VERSION, uptime_seconds=uptime).encode())
            await asyncio.sleep(BEAT_SECONDS)
            uptime += BEAT_SECONDS

    beating = asyncio.create_task(beat())
    try:
        async for message in socket:
            await _answer(socket, kind, json.loads(message))
    except ConnectionClosed:
        pass
    finally:
        beating.cancel()


async def _answer(socket: ClientConnection, kind: Kind, frame: Mapping[str, Any]) -> None:
    match frame["type"]:
        case "authenticated":
            revision = frame.get("sandboxPolicyRevision")
            if revision is not None:
                await _apply(socket, kind, revision)
        case "sandbox_policy" if kind.state != "behind":
            await _apply(socket, kind, frame["revision"])
        case "run_script":
            await _run(socket, kind, frame)


async def _apply(socket: ClientConnection, kind: Kind, revision: int) -> None:
    downgrades = [{"layer": "network", "reason": NO_TUN}] if kind.state == "weak" else []
    enforced = {**ENFORCED, "network": kind.state != "weak"}
    told = {
        "type": "sandbox_policy_applied",
        "revision": revision,
        "enforced": enforced,
        "downgrades": downgrades,
    }
    await socket.send(SandboxPolicyApplied.model_validate(told).encode())


OUTPUT = (
    ("stdout", "3 services of {name}\n"),
    ("stdout", "nginx      running  1 day 4 h\n"),
    ("stdout", "shop-api   running  1 day 4 h\n"),
    ("stderr", "shop-jobs: no heartbeat for 12 s\n"),
    ("stdout", "shop-jobs  running  6 min\n"),
)


async def _run(socket: ClientConnection, kind: Kind, frame: Mapping[str, Any]) -> None:
    """Have a script end well, after it has written something."""
    run = frame["runId"]
    await socket.send(RunAccepted(run_id=run).encode())
    for number, (stream, text) in enumerate(OUTPUT):
        piece = text.format(name=kind.name)
        await socket.send(RunOutput(run_id=run, stream=stream, sequence=number, text=piece).encode())
    printed = {name: "".join(text for of, text in OUTPUT if of == name) for name in ("stdout", "stderr")}
    outcome = {
        "exitCode": 0,
        "durationMs": 412.0,
        **{name: text.format(name=kind.name) for name, text in printed.items()},
        "sandbox": REPORT,
    }
    await socket.send(RunFinished.of(run, outcome).encode())


REPORT: dict[str, Any] = {
    "enforced": ENFORCED,
    "mechanisms": {
        "network": "network namespace with slirp4netns and nftables",
        "filesystem": "bubblewrap, mount namespace",
        "privilege": "uid 2000000007, no capabilities",
        "resources": "rlimits",
    },
    "downgrades": [],
    "notes": [],
    "origin": {"source": "database", "revision": 4},
}
