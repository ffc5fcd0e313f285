"""Connections that have not asked for anything yet: for how long, and how many.

Threat: whoever opens connections and says nothing, or half a header, holds a descriptor of this process with each; when
there is none left nobody can be let in, and the event loop fills the log with its attempts. Mechanism: a request's head
has `HEAD_SECONDS`, and each further piece of its body `BODY_SECONDS`. When as many connections are open as leave just
`RESERVE` descriptors, the one that has kept its first request back for longest makes room for the newest, so that a
health check still gets an answer. Not covered: connections that have all asked for something (a satellite's, say); then
new ones are dropped.
"""

from __future__ import annotations

import asyncio
import resource
import time
from typing import Any

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

from ringfence.web.pieces import PiecesConnection

HEAD_SECONDS = 20.0
BODY_SECONDS = 60.0
MOST_HEAD_BYTES = 64 * 1024
RESERVE = 128
"""Descriptors that are kept for the database, for runs and their sandboxes, and for files."""
LOG_SECONDS = 10.0

_log = structlog.get_logger("ringfence.web")


def most_connections() -> int:
    """How many connections leave the reserve, by this process's own limit of descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(soft - RESERVE, RESERVE) if soft != resource.RLIM_INFINITY else 1_000_000


class Reception:
    """Who waits, oldest first. Connections are anything that can be hashed. Pure."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[Any, None] = {}

    def arrive(self, connection: Any, *, others: int) -> Any | None:
        """Note a new connection beside `others`; who has to leave for it, itself perhaps, or None."""
        self._waiting[connection] = None
        if others < self._most:
            return None
        leaves = next(iter(self._waiting))
        del self._waiting[leaves]
        return leaves

    def leave(self, connection: Any) -> None:
        """Note that a connection has asked for something, or is gone."""
        self._waiting.pop(connection, None)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)


class ReceivingProtocol(H11Protocol):
    """uvicorn's HTTP protocol, behind a `Reception` that all connections of a server share.

    It stands on what uvicorn does not promise to keep, so pyproject.toml bounds uvicorn from above. Its other parser,
    httptools, does not bound a request's head, and saves a tenth of a millisecond per request.
    """

    reception: Reception
    _deadline: asyncio.TimerHandle | None = None
    _told_at = -LOG_SECONDS

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn: PiecesConnection = PiecesConnection(h11.SERVER, MOST_HEAD_BYTES)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Have a place, perhaps another's."""
        super().connection_made(transport)
        leaves = self.reception.arrive(self, others=len(self.connections) - 1)
        if leaves is not None:
            self._tell_of_the_crowd()
            leaves.transport.abort()
        if leaves is not self:
            self._wait(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._stop_waiting()
        self.reception.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read, and see how long the rest may take."""
        self.conn.read_begins()
        super().data_received(data)
        if self.conn.too_many:
            self.transport.abort()
            return
        if self.transport.get_protocol() is not self:
            # It is a WebSocket from here on, which has deadlines of its own; nothing more of it comes here.
            self.reception.leave(self)
            self._stop_waiting()
            return
        state = self.conn.their_state
        if state is h11.IDLE:
            # A head has begun. Its deadline is that of its first piece, however many come.
            if self._deadline is None:
                self._wait(HEAD_SECONDS)
            return
        self.reception.leave(self)
        self._stop_waiting()
        if state is h11.SEND_BODY:
            self._wait(BODY_SECONDS)

    def _wait(self, seconds: float) -> None:
        self._deadline = self.loop.call_later(seconds, self._out_of_time)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _out_of_time(self) -> None:
        self._deadline = None
        self.transport.abort()

    @classmethod
    def _tell_of_the_crowd(cls) -> None:
        if (now := time.monotonic()) - cls._told_at >= LOG_SECONDS:
            cls._told_at = now
            _log.warning(
                "dropping connections that ask for nothing: this process has as many open as it may",
                limit="RLIMIT_NOFILE",
            )


def receiving_protocol(most: int) -> type[ReceivingProtocol]:
    """The protocol of one server."""
    return type("ServedProtocol", (ReceivingProtocol,), {"reception": Reception(most)})
