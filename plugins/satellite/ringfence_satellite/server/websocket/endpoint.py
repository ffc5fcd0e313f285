"""The host's side of one connection: let the satellite in, and listen to it until it ends.

Threat: anybody may open this socket, and a satellite may have been taken over. Mechanism: nothing but
`authenticate` is listened to before a token was proved (see `admission`), and that for `AUTHENTICATE_SECONDS`; how
many have not proved anything is bounded (see `unauthenticated`), and so are frames, rate and answers; and what a
satellite may report is bounded too (see `dispatch`). Not covered: connections that have not become WebSockets yet
(limit those in front).
"""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import structlog
from ringfence.bounded import cleaned
from ringfence.redaction import describe
from sqlalchemy.exc import SQLAlchemyError
from starlette.websockets import WebSocket, WebSocketDisconnect

from ringfence_satellite.protocol import (
    AUTHENTICATE_SECONDS,
    MAX_SMALL_FRAME_BYTES,
    Authenticate,
    CloseCode,
    ProtocolError,
    parse_from_satellite,
)
from ringfence_satellite.server.assigned_work import Work
from ringfence_satellite.server.batched import Batched
from ringfence_satellite.server.connections.connection import Connection
from ringfence_satellite.server.connections.relay import Relay
from ringfence_satellite.server.journal import Journal
from ringfence_satellite.server.packages.offering import Offering
from ringfence_satellite.server.packages.states import SyncStates
from ringfence_satellite.server.runs.delivery import Deliveries
from ringfence_satellite.server.runs.output import Outputs
from ringfence_satellite.server.satellites import Credentials
from ringfence_satellite.server.websocket.admission import Admission, NotAdmittedError
from ringfence_satellite.server.websocket.dispatch import Dispatch
from ringfence_satellite.server.websocket.unauthenticated import Doorway
from ringfence_satellite.server.websocket.visit import End, Visit

CROWDED = "too many sockets are open that have not authenticated; try again later"
CROWDED_LOG_SECONDS = 10.0
"""How often at most it is logged that somebody was sent away for that."""
_log = structlog.get_logger("ringfence.satellite.endpoint")


class SatelliteEndpoint:
    """Serves `/api/ws/satellite`: one call of `serve` per connection, in that connection's own task."""

    def __init__(
        self,
        *,
        relay: Relay,
        journal: Journal,
        runs: Deliveries,
        outputs: Outputs,
        credentials: Batched[UUID, Credentials],
        work: Work,
        packages: Offering,
        sync_states: SyncStates,
        max_unauthenticated: int,
    ) -> None:
        self._relay = relay
        self._journal = journal
        self._runs = runs
        self._admission = Admission(
            relay=relay, journal=journal, credentials=credentials, work=work, packages=packages
        )
        self._dispatch = Dispatch(
            relay=relay,
            journal=journal,
            runs=runs,
            outputs=outputs,
            work=work,
            packages=packages,
            sync_states=sync_states,
        )
        self._doorway: Doorway[Visit] = Doorway(max_unauthenticated)
        self._crowded_logged_at = -CROWDED_LOG_SECONDS

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection until it ends, for whatever reason."""
        await websocket.accept()
        visit = Visit(websocket)
        # Many may stand here at once: none of them may have as much held in memory as a satellite may send.
        visit.limit_messages(MAX_SMALL_FRAME_BYTES)
        if not self._enters(visit):
            await visit.close(End(CloseCode.TRY_LATER, CROWDED))
            visit.drop()
            return
        try:
            end = await self._until_it_ends(visit)
        except Exception as error:
            end = self._failed(visit, error)
        except BaseException:
            self._doorway.leave(visit)
            await self._clear_away(visit, End(CloseCode.GOING_AWAY, "the instance stops"))
            raise
        try:
            await self._clear_away(visit, end)
            if not end.peer_is_gone:
                await visit.close(end)
        finally:
            self._leaves(visit, end)

    def _failed(self, visit: Visit, error: Exception) -> End:
        """Nobody foresaw this. It ends this connection, in the same way as anything else, and no other."""
        satellite = None if visit.connection is None else str(visit.connection.satellite)
        _log.error(
            "a connection failed in a way that nobody foresaw",
            satellite=satellite,
            error=describe(error),
            exc_info=error,
        )
        return End(CloseCode.FAULT, "the host has failed at this connection; its log says why")

    # Its place at the door --------------------------------------------------------------------------------

    def _enters(self, visit: Visit) -> bool:
        """Give a new socket its place, at the cost of another's if need be. False if there is none."""
        leaves = self._doorway.enter(visit)
        if leaves is None:
            return True
        if (now := time.monotonic()) - self._crowded_logged_at >= CROWDED_LOG_SECONDS:
            self._crowded_logged_at = now
            _log.warning("closing sockets that have not authenticated: too many are open")
        if leaves is not visit:
            leaves.send_away()
        return leaves is not visit

    def _leaves(self, visit: Visit, end: End) -> None:
        """Give back the place of a socket that has ended, once it is gone.

        A peer that does not answer that it is closed still holds it.
        """
        is_admitted = visit.connection is not None and visit.connection.is_admitted
        if end.peer_is_gone or is_admitted:
            self._doorway.leave(visit)
        elif visit.sent_away:
            visit.drop()
        else:
            visit.drop_soon(self._doorway.leave)

    # From its first word to its end -----------------------------------------------------------------------

    async def _until_it_ends(self, visit: Visit) -> End:
        """Let the satellite in and listen to it. The answer is how that ended."""
        try:
            async with asyncio.timeout(AUTHENTICATE_SECONDS) as scope:
                visit.scope = scope
                connection = await self._admission.let_in(visit, await self._hello(visit), scope)
                self._doorway.leave(visit)
                if not scope.expired():
                    scope.reschedule(None)
                await self._listen(visit, connection)
        except NotAdmittedError as error:
            return End(CloseCode.AUTH_FAILED, str(error))
        except ProtocolError as error:
            return End(error.code, str(error))
        except WebSocketDisconnect as gone:
            return End(gone.code, cleaned(gone.reason or ""), peer_is_gone=True)
        except SQLAlchemyError as error:
            _log.error("cannot let satellites in", error=describe(error))
            return End(CloseCode.TRY_LATER, "the host cannot reach its database")
        except TimeoutError:
            return _woken(visit)
        raise AssertionError("listening has no other end")

    async def _hello(self, visit: Visit) -> Authenticate:
        text = await visit.receive()
        self._doorway.spoke(visit)
        try:
            frame = parse_from_satellite(text, max_bytes=MAX_SMALL_FRAME_BYTES)
        except ProtocolError as error:
            raise NotAdmittedError(f"authenticate must come first: {error}") from error
        if not isinstance(frame, Authenticate):
            raise NotAdmittedError("authenticate must come first")
        return frame

    async def _listen(self, visit: Visit, connection: Connection) -> None:
        while True:
            text = await visit.receive()
            frame = parse_from_satellite(text)
            self._relay.traffic.came(frame, len(text))
            if not connection.heard(frame):
                raise ProtocolError("the satellite sends more frames than it may", CloseCode.TOO_FAST)
            with connection.busy():
                is_taken = frame is None or await self._dispatch.take(connection, frame)
            if frame is not None and not is_taken:
                self._relay.traffic.unasked()
                _log.warning(
                    "dropped a frame that nobody asked for",
                    satellite=str(connection.satellite),
                    type=frame.TYPE,
                )

    async def _clear_away(self, visit: Visit, end: End) -> None:
        """Let go of what the connection holds, once. What may wait comes last."""
        visit.ended()
        connection = visit.connection
        if connection is None:
            return
        self._relay.forget(connection)
        if connection.is_admitted:
            self._journal.departed(
                connection.satellite,
                connection.id,
                clean=end.is_clean,
                code=end.code,
                reason=end.reason[:200],
            )
        await connection.stop_writing()
        await self._runs.left(connection)


def _woken(visit: Visit) -> End:
    """Why the task that served it was woken: somebody wants it to end, or its time to sign in is over."""
    if visit.sent_away:
        return End(CloseCode.TRY_LATER, CROWDED)
    if visit.connection is None:
        return End(CloseCode.AUTH_FAILED, f"not authenticated within {AUTHENTICATE_SECONDS:g} s")
    return End(*(visit.connection.ending or (CloseCode.TRY_LATER, "the host is too slow at the moment")))
