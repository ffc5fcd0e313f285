"""The core's side of one connection: let the satellite in, tell it the policy, and take what it reports.

Threat: anybody may open this socket, and a satellite may have been taken over. Mechanism: nothing but
`authenticate` is listened to before a token was proved, and that for `AUTHENTICATE_SECONDS`; a refusal says
the same for an unknown satellite as for a wrong token; how many have not proved anything is bounded (see
`doorway`), and so are frames, rate and answers; and a satellite can report only on itself and on what was
asked of it. Not covered: connections that have not become WebSockets yet (limit those in front).
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import assert_never
from uuid import UUID

import structlog
from ringfence.bounded import cleaned
from ringfence.redaction import describe
from ringfence.web import TextMessage, direct_writes
from sqlalchemy.exc import SQLAlchemyError
from starlette.websockets import WebSocket, WebSocketDisconnect

from ringfence_satellite.protocol import (
    AUTHENTICATE_SECONDS,
    MAX_FRAME_BYTES,
    MAX_SMALL_FRAME_BYTES,
    Authenticate,
    Authenticated,
    AuthFailed,
    CheckResult,
    CloseCode,
    ConfigUpdated,
    Heartbeat,
    HeldPolicy,
    ProtocolError,
    RequestAssignments,
    RequestRunSecrets,
    ResultAck,
    RunAccepted,
    RunFinished,
    RunOutput,
    SandboxPolicyApplied,
    SatelliteFrame,
    StrategyError,
    parse_from_satellite,
)
from ringfence_satellite.server.batched import Batched
from ringfence_satellite.server.connection import Connection, SignIn, expire
from ringfence_satellite.server.doorway import Doorway
from ringfence_satellite.server.journal import Journal
from ringfence_satellite.server.relay import Relay
from ringfence_satellite.server.runs.delivery import Deliveries
from ringfence_satellite.server.runs.output import Outputs
from ringfence_satellite.server.satellites import Credentials
from ringfence_satellite.server.telling import Telling
from ringfence_satellite.server.tokens import matches
from ringfence_satellite.server.work import Work

CLOSE_SECONDS = 1.0
"""How long a peer that is told to go may take to read that, before it is dropped."""
REFUSED = "unknown satellite, or wrong token"
CROWDED = "too many sockets are open that have not authenticated; try again later"
CROWDED_LOG_SECONDS = 10.0
"""How often at most it is logged that somebody was sent away for that."""
LOST = 1006
"""RFC 6455: the connection ended without a close frame."""

_log = structlog.get_logger("ringfence.satellite.endpoint")


class _AuthenticationFailed(Exception):
    """The peer is not let in; the message is the reason that it is given."""


@dataclass(slots=True, eq=False)
class _Visit:
    """A socket, and the connection that it becomes once somebody has said who it is."""

    websocket: WebSocket
    connection: Connection | None = None
    scope: asyncio.Timeout | None = None
    sent_away: bool = False
    is_over: bool = False

    def send_away(self) -> None:
        """End it now, to make room for another."""
        self.sent_away = True
        if self.is_over:
            self.drop()
        elif self.scope is not None:
            expire(self.scope)

    def ended(self) -> None:
        """Note that its work has ended: whoever wants it ended from here on finds that it is."""
        self.is_over = True
        if self.connection is not None:
            self.connection.ended()

    def limit_messages(self, most: int) -> None:
        """Take no frame of more than `most` bytes, where the server can see to that."""
        if (direct := direct_writes(self.websocket)) is not None:
            direct.limit_messages(most)

    def drop(self) -> None:
        """Close the socket, whether the peer has answered our closing it or not."""
        if (direct := direct_writes(self.websocket)) is not None:
            direct.abort()


@dataclass(frozen=True, slots=True)
class _End:
    """How a connection ended: the close code and reason, the peer's or ours."""

    code: int
    reason: str
    peer_is_gone: bool = False

    @property
    def is_clean(self) -> bool:
        """Whether the satellite is known to be offline now: it said goodbye, or we have thrown it out."""
        return self.code == CloseCode.REVOKED or (
            self.peer_is_gone and self.code in {CloseCode.NORMAL, CloseCode.GOING_AWAY}
        )


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
        max_unauthenticated: int,
    ) -> None:
        self._relay = relay
        self._journal = journal
        self._runs = runs
        self._outputs = outputs
        self._credentials = credentials
        self._work = work
        self._telling = Telling()
        self._doorway: Doorway[_Visit] = Doorway(max_unauthenticated)
        self._crowded_logged_at = -CROWDED_LOG_SECONDS

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection until it ends, for whatever reason."""
        await websocket.accept()
        visit = _Visit(websocket)
        # Many may stand here at once: none of them may have as much held in memory as a satellite may send.
        visit.limit_messages(MAX_SMALL_FRAME_BYTES)
        if not self._enters(visit):
            await _say_goodbye(visit, _End(CloseCode.TRY_LATER, CROWDED))
            visit.drop()
            return
        try:
            end = await self._until_it_ends(visit)
        except Exception as error:
            end = self._failed(visit, error)
        except BaseException:
            self._doorway.leave(visit)
            await self._clear_away(visit, _End(CloseCode.GOING_AWAY, "the instance stops"))
            raise
        try:
            await self._clear_away(visit, end)
            if not end.peer_is_gone:
                await _say_goodbye(visit, end)
        finally:
            self._leaves(visit, end)

    def _failed(self, visit: _Visit, error: Exception) -> _End:
        """Nobody foresaw this. It ends this connection, in the same way as anything else, and no other."""
        satellite = None if visit.connection is None else str(visit.connection.satellite)
        _log.error("failed at a connection", satellite=satellite, error=describe(error), exc_info=error)
        return _End(CloseCode.FAULT, "the core has failed at this connection; its log says why")

    def _enters(self, visit: _Visit) -> bool:
        """Give a new socket its place, at the cost of another's if need be. False if there is none."""
        leaves = self._doorway.enter(visit)
        if leaves is None:
            return True
        if (now := time.monotonic()) - self._crowded_logged_at >= CROWDED_LOG_SECONDS:
            self._crowded_logged_at = now
            _log.warning("sending sockets away that have not authenticated: there are too many of them")
        if leaves is not visit:
            leaves.send_away()
        return leaves is not visit

    def _leaves(self, visit: _Visit, end: _End) -> None:
        """Give back the place of a socket that has ended, once it is gone.

        A peer that does not answer that it is closed still holds it.
        """
        is_admitted = visit.connection is not None and visit.connection.is_admitted
        if end.peer_is_gone or is_admitted:
            self._doorway.leave(visit)
        elif visit.sent_away:
            visit.drop()
        else:
            asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._drop, visit)

    def _drop(self, visit: _Visit) -> None:
        visit.drop()
        self._doorway.leave(visit)

    async def _until_it_ends(self, visit: _Visit) -> _End:
        """Let the satellite in and listen to it. The answer is how that ended."""
        try:
            async with asyncio.timeout(AUTHENTICATE_SECONDS) as scope:
                visit.scope = scope
                connection = await self._let_in(visit, scope)
                self._doorway.leave(visit)
                if not scope.expired():
                    scope.reschedule(None)
                await self._listen(visit.websocket, connection)
        except _AuthenticationFailed as error:
            return _End(CloseCode.AUTH_FAILED, str(error))
        except ProtocolError as error:
            return _End(error.code, str(error))
        except WebSocketDisconnect as gone:
            return _End(gone.code, cleaned(gone.reason or ""), peer_is_gone=True)
        except SQLAlchemyError as error:
            _log.error("cannot let satellites in", error=describe(error))
            return _End(CloseCode.TRY_LATER, "the core cannot reach its database")
        except TimeoutError:
            if visit.sent_away:
                return _End(CloseCode.TRY_LATER, CROWDED)
            if visit.connection is None:
                return _End(CloseCode.AUTH_FAILED, f"not authenticated within {AUTHENTICATE_SECONDS:g} s")
            return _End(
                *(visit.connection.ending or (CloseCode.TRY_LATER, "the core is too slow at the moment"))
            )
        raise AssertionError("listening has no other end")

    async def _clear_away(self, visit: _Visit, end: _End) -> None:
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

    async def _hello(self, visit: _Visit) -> Authenticate:
        text = await _receive(visit.websocket)
        self._doorway.spoke(visit)
        try:
            frame = parse_from_satellite(text, max_bytes=MAX_SMALL_FRAME_BYTES)
        except ProtocolError as error:
            raise _AuthenticationFailed(f"authenticate must come first: {error}") from error
        if not isinstance(frame, Authenticate):
            raise _AuthenticationFailed("authenticate must come first")
        return frame

    async def _let_in(self, visit: _Visit, scope: asyncio.Timeout) -> Connection:
        hello = await self._hello(visit)
        satellite = _satellite_id(hello.client_id)
        visit.connection = connection = Connection(
            visit.websocket,
            scope,
            satellite=satellite,
            id=uuid.uuid4(),
            tell=self._telling.whole if hello.assignments_held is None else self._telling.difference,
        )
        # Claimed before the token is looked up: one that is rotated from here on ends this connection.
        self._relay.claim(connection)
        found = await self._credentials.get(connection.satellite)
        if not matches(hello.token, None if found is None else found.digest) or found is None:
            raise _AuthenticationFailed(REFUSED)
        if connection.ending is not None:
            raise _AuthenticationFailed(connection.ending[1])
        connection.admitted(
            SignIn(
                tags=found.tags,
                offline_after_seconds=found.offline_after_seconds,
                process=hello.process,
                runs=hello.runs,
                names_policy=hello.sandbox_policy_held is not None,
            )
        )
        visit.limit_messages(MAX_FRAME_BYTES)
        # Admitted before the policy is read: see `relay`. From here on every change comes to this outbox.
        self._relay.admit(connection)
        self._journal.arrived(
            connection.satellite, connection.id, version=hello.version, capabilities=hello.capabilities
        )
        policy, replaces = await self._relay.policy_for(connection), None
        if policy is not None and isinstance(hello.sandbox_policy_held, HeldPolicy):
            policy, replaces = await self._relay.reconciled(policy, hello.sandbox_policy_held)
        if policy is not None and replaces is not None:
            _log.error(
                "a satellite holds a policy that the database does not have: it was set back. "
                "The satellite is told to follow",
                satellite=str(connection.satellite),
                held_revision=replaces.revision,
                revision=policy.revision,
            )
        as_of = self._work.turn()
        assigned = connection.assign(await self._work.assignments(connection.identity), as_of)
        takes_differences = hello.assignments_held is not None
        welcome = Authenticated(
            satellite_id=str(connection.satellite),
            assignments=None if takes_differences else ConfigUpdated.of(assigned).assignments,
            assignments_digest=assigned.digest if takes_differences else None,
            sandbox_policy=None if policy is None else policy.policy,
            sandbox_policy_revision=None if policy is None else policy.revision,
            sandbox_policy_replaces=replaces,
            acknowledges_results=True,
            keeps_runs=True,
            limits_follow_schedules=True,
        )
        connection.welcome(
            TextMessage(welcome.encode()),
            revision=None if policy is None else policy.revision,
            holds=assigned if hello.assignments_held is None else self._work.known(hello.assignments_held),
        )
        return connection

    async def _listen(self, websocket: WebSocket, connection: Connection) -> None:
        while True:
            text = await _receive(websocket)
            frame = parse_from_satellite(text)
            if not connection.heard(frame):
                raise ProtocolError("more frames than are taken from one satellite", CloseCode.TOO_FAST)
            with connection.busy():
                is_taken = frame is None or await self._take(connection, frame)
            if frame is not None and not is_taken:
                _log.warning(
                    "dropped what was not asked for", satellite=str(connection.satellite), type=frame.TYPE
                )

    async def _take(self, connection: Connection, frame: SatelliteFrame) -> bool:
        """Act on one frame. False when the satellite has no business sending it."""
        match frame:
            case Heartbeat():
                self._journal.heartbeat(
                    connection.satellite,
                    connection.id,
                    version=frame.version,
                    capabilities=frame.capabilities,
                )
                return True
            case SandboxPolicyApplied():
                if not connection.policy_applied(frame.revision):
                    return False
                unknown = await self._is_unknown(connection, frame.revision)
                self._journal.applied(connection.satellite, connection.id, frame, unknown=unknown)
                return True
            case RunAccepted():
                return await self._runs.accepted(connection, frame)
            case RunOutput():
                return self._outputs.heard(connection, frame)
            case RunFinished():
                return await self._runs.answered(connection, frame)
            case CheckResult():
                taken = await self._work.report(connection.identity, frame)
                if frame.result_id is not None:
                    # What is refused is settled too: it would be refused again, however often it came.
                    connection.answer(
                        TextMessage(ResultAck(result_id=frame.result_id, accepted=taken).encode())
                    )
                return taken
            case StrategyError():
                return await self._work.report(connection.identity, frame)
            case RequestRunSecrets():
                answer = await self._work.secrets(connection.identity, frame)
                connection.answer(TextMessage(answer.encode()))
                return answer.env is not None
            case RequestAssignments():
                if not connection.assign_anew():
                    raise ProtocolError("all assignments are asked for too often", CloseCode.TOO_FAST)
                _log.warning(
                    "a satellite holds other assignments than it was told; it is told all of them",
                    satellite=str(connection.satellite),
                )
                return True
            case Authenticate():
                return False
            case _:
                assert_never(frame)

    async def _is_unknown(self, connection: Connection, revision: int) -> bool | None:
        """Whether the satellite governs its runs by a revision that the database does not have.

        None if that cannot be told: of a satellite that does not say what it holds, only the number that it has
        applied is known.
        """
        if revision <= connection.told_revision:
            return False if connection.names_policy else None
        if not await self._relay.is_unknown(revision):
            return None
        _log.error(
            "a satellite is on a policy that the database does not have: it was set back. Start the satellite's agent "
            "again, so that it takes the current policy",
            satellite=str(connection.satellite),
            applied_revision=revision,
        )
        return True


def _satellite_id(client_id: str) -> UUID:
    try:
        return UUID(client_id)
    except ValueError as error:
        raise _AuthenticationFailed(REFUSED) from error


async def _receive(websocket: WebSocket) -> str:
    """The next text message; binary ones are no frames of this protocol, and are passed over."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code") or LOST, message.get("reason"))
        if (text := message.get("text")) is not None:
            return str(text)


async def _say_goodbye(visit: _Visit, end: _End) -> None:
    """Close with a reason that fits a close frame (123 bytes).

    Drop the peer if it does not even read that.
    """
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            if end.code == CloseCode.AUTH_FAILED:
                await visit.websocket.send_text(AuthFailed(reason=end.reason).encode())
            await visit.websocket.close(end.code, end.reason.encode()[:120].decode(errors="ignore"))
    except TimeoutError:
        visit.drop()
    except (WebSocketDisconnect, RuntimeError):
        return  # It has gone in the meantime.
