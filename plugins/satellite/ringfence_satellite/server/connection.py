"""One satellite's connection, as this instance holds it: what waits for it, and how it is written and ended.

It never waits for its satellite: sending puts a message into a bounded outbox and writes what the socket
takes at once. Only for a peer that is not keeping up (or a server without direct writes) a task is made
that waits, and it ends when the outbox is empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from uuid import UUID

from ringfence.pace import TokenBucket
from ringfence.web import TextMessage, direct_writes
from starlette.websockets import WebSocket, WebSocketDisconnect

from ringfence_satellite.protocol import MAX_FRAME_BURST, MAX_FRAMES_PER_SECOND, CloseCode, frames_per_second
from ringfence_satellite.protocol.assignments import Assigned
from ringfence_satellite.server.outbox import Outbox, Tell, tell_nothing
from ringfence_satellite.service import AssignedSatellite


class Connection:
    """A socket of a satellite that has said who it is. Compared and hashed by identity.

    `process` is the agent's, if it keeps runs, and `held_runs` are those that it had when it signed in. `runs` are
    those of which an answer is expected over this connection, and whether the agent has said that it has them.
    """

    __slots__ = (
        "_allowance",
        "_direct",
        "_scope",
        "_websocket",
        "_writer",
        "acknowledged",
        "announced",
        "asked_at",
        "ending",
        "heard_at",
        "held_runs",
        "id",
        "is_busy",
        "is_in",
        "is_over",
        "offline_after_seconds",
        "outbox",
        "process",
        "reconciles",
        "runs",
        "satellite",
        "stuck_since",
        "tags",
    )

    def __init__(
        self,
        websocket: WebSocket,
        scope: asyncio.Timeout,
        *,
        satellite: UUID,
        id: UUID,
        tell: Tell = tell_nothing,
    ) -> None:
        self.satellite = satellite
        self.id = id
        self.outbox = Outbox(tell)
        self.process: str | None = None
        self.held_runs: frozenset[str] = frozenset()
        self.runs: dict[str, bool] = {}
        self.heard_at = time.monotonic()
        self.stuck_since: float | None = None
        self.offline_after_seconds = 0.0
        self.announced = False
        self.acknowledged = -1
        self.asked_at = float("-inf")
        self.reconciles = False
        self.is_in = False
        self.is_busy = False
        self.is_over = False
        self.tags: frozenset[str] | None = None
        self.ending: tuple[CloseCode, str] | None = None
        self._websocket = websocket
        self._direct = direct_writes(websocket)
        self._scope = scope
        self._writer: asyncio.Task[None] | None = None
        self._allowance = TokenBucket(MAX_FRAME_BURST, MAX_FRAMES_PER_SECOND, self.heard_at)

    @property
    def identity(self) -> AssignedSatellite:
        """The satellite as its assignments depend on it."""
        return AssignedSatellite(self.satellite, self.tags or frozenset())

    def policy(self, message: TextMessage, revision: int) -> None:
        """Have the satellite told of a policy, unless it has been told of one that is as new."""
        if self.outbox.policy(message, revision):
            self.flush()

    def assign(self, wanted: Assigned, as_of: int) -> None:
        """Have the satellite told of what it is to do, unless it is told of what was read later."""
        self.allow(self.outbox.assign(wanted, as_of))
        self.flush()

    def allow(self, assigned: Assigned) -> Assigned:
        """Let the satellite say as much as that makes it say."""
        self._allowance.pace(frames_per_second(assigned.runs_per_second), time.monotonic())
        return assigned

    def send(self, message: TextMessage) -> bool:
        """Have the satellite told something else. False when too much waits for it already."""
        if not self.outbox.put(message):
            return False
        self.flush()
        return True

    def answer(self, message: TextMessage) -> None:
        """Have the satellite told what it has asked for: now, or when there is room.

        One that asks again and again and does not read the answers is ended.
        """
        if self.outbox.owe(message):
            self.flush()
        else:
            self.end(CloseCode.TOO_SLOW, "the satellite does not read the answers to what it asks")

    def flush(self) -> None:
        """Write what can be written without waiting, and see to the rest."""
        if self._writer is not None or self.ending is not None or self.is_over:
            return
        message = self.outbox.peek()
        while message is not None:
            if self._direct is None or not self._direct.write_now(message):
                self.stuck_since = time.monotonic()
                self._writer = asyncio.create_task(
                    self._write_patiently(), name=f"writer of {self.satellite}"
                )
                return
            message = self.outbox.sent(message)

    def end(self, code: CloseCode, reason: str) -> None:
        """Have the connection closed with this code and reason.

        The first one that is given holds; one that has ended by itself is left alone.
        """
        if self.ending is None and not self.is_over:
            self.ending = (code, reason)
            # Wakes the task that reads this connection, wherever it waits, without the ambiguity of a
            # cancellation.
            if not self._scope.expired():
                self._scope.reschedule(asyncio.get_running_loop().time())

    def abort(self) -> None:
        """Drop the connection without a word: for a peer that does not even read what it was sent."""
        if self._direct is not None:
            self._direct.abort()

    async def stop_writing(self) -> None:
        """Give up on what still waits; called when the connection has ended."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])

    def heard(self, *, asked_for: bool = False) -> bool:
        """Note that a frame has come.

        False when it is one more than the rate limit allows; what was `asked_for` is free.
        """
        self.heard_at = time.monotonic()
        return asked_for or self._allowance.take(self.heard_at)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """While this block acts on a frame, nobody listens to the satellite: it is not silent then."""
        self.is_busy = True
        try:
            yield
        finally:
            self.is_busy = False
            self.heard_at = time.monotonic()

    async def _write_patiently(self) -> None:
        try:
            while (message := self.outbox.peek()) is not None:
                await self._websocket.send_text(message.text)
                self.stuck_since = time.monotonic()
                self.outbox.sent(message)
        except (WebSocketDisconnect, RuntimeError):
            return  # The reader of this connection has found out too, and ends it.
        finally:
            self._writer = None
            self.stuck_since = None
