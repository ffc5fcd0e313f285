"""A fake satellite, for tests: it speaks the protocol over a real WebSocket, and does what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from ringfence.testing import PATIENCE_SECONDS, Host, client, served
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from ringfence_satellite.protocol import (
    CONTEXT,
    NARROWED,
    PATH,
    TASK,
    Authenticate,
    Authenticated,
    Frame,
    RunFinished,
    RunScript,
    SandboxPolicyApplied,
    SandboxPolicyPushed,
    parse_from_host,
)

F = TypeVar("F", bound=Frame)

_NOTHING_ENFORCED = {"requested": {}, "origin": {"source": "stored"}}
"""The sandbox report of a run that was made up."""


class FakeSatellite:
    """One connected satellite. Frames that a test does not ask for are kept in `passed_over`.

    `welcome` is what the host let it in with: its assignments, and the policy that held then.
    """

    def __init__(self, socket: ClientConnection, *, id: str, token: str) -> None:
        self.id = id
        self.token = token
        self.welcome = Authenticated(satellite_id=id)
        self.passed_over: list[Frame] = []
        self._socket = socket

    async def say(self, frame: Frame) -> None:
        """Send one frame."""
        await self._socket.send(frame.encode())

    async def hear(self, kind: type[F]) -> F:
        """The next frame of this kind. Raises `TimeoutError`, and `ConnectionClosed` when the host hangs up first."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    frame = parse_from_host(str(await self._socket.recv(decode=True)))
                    if isinstance(frame, kind):
                        return frame
                    if frame is not None:
                        self.passed_over.append(frame)
        except TimeoutError:
            came = ", ".join(type(frame).__name__ for frame in self.passed_over) or "nothing"
            raise TimeoutError(
                f"no {kind.__name__} came within {PATIENCE_SECONDS:g} s; passed over: {came}"
            ) from None

    async def apply_policy(self, *, enforced: dict[str, bool] | None = None) -> SandboxPolicyPushed:
        """Wait for the next change of the policy and acknowledge it, claiming to enforce what is said here.

        The policy that held when the satellite was let in is no change: it is in `welcome`.
        """
        pushed = await self.hear(SandboxPolicyPushed)
        await self.say(SandboxPolicyApplied(revision=pushed.revision, enforced=enforced or {}))
        return pushed

    async def answer_run(self, *, exit_code: int = 0, stdout: str = "", **result: Any) -> RunScript:
        """Wait for the next script and answer it with this result; it is not run. Answers what was asked.

        Unless `sandbox` is given, the report says that nothing was enforced.
        """
        asked = await self.hear(RunScript)
        outcome = {"exitCode": exit_code, "stdout": stdout, "sandbox": _NOTHING_ENFORCED, **result}
        await self.say(RunFinished.of(asked.run_id, outcome))
        return asked

    async def closed(self) -> int:
        """Wait until the host hangs up; the close code."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                while True:
                    await self._socket.recv()
            except ConnectionClosed:
                return self._socket.close_code or 0


@asynccontextmanager
async def connect_satellite(url: str, *, id: str, token: str) -> AsyncIterator[FakeSatellite]:
    """Connect to the instance at `url` as a satellite that is registered, and be let in."""
    address = url.replace("http", "ws", 1) + PATH
    async with connect(address, compression=None, close_timeout=1) as socket:
        satellite = FakeSatellite(socket, id=id, token=token)
        await satellite.say(
            Authenticate(client_id=id, token=token, version="fake", understands=(TASK, NARROWED, CONTEXT))
        )
        satellite.welcome = await satellite.hear(Authenticated)
        yield satellite


@asynccontextmanager
async def fake_satellite(
    host: Host, *, name: str = "fake", region: str = "test"
) -> AsyncIterator[FakeSatellite]:
    """Register a satellite at a running instance, serve that on a free port, and connect."""
    async with client(host) as admin, served(host) as url:
        answer = await admin.post("/api/satellite/satellites", json={"name": name, "region": region})
        answer.raise_for_status()
        made = answer.json()
        async with connect_satellite(url, id=made["satellite"]["id"], token=made["token"]) as satellite:
            yield satellite
