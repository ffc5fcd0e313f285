"""The satellite's one connection to its host: open it, talk, and open it again when it is lost.

It is opened at another instance if there is one.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import structlog
from ringfence import tracing
from ringfence.process.proxies import proxy_for
from ringfence.redaction import describe
from ringfence.sandbox import PolicySnapshot
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from ringfence_satellite.agent.connecting.conversation import (
    Acknowledge,
    Action,
    AskForAssignments,
    Confirm,
    Conversation,
    HandOver,
    HandPiece,
    HavePackages,
    Learn,
    Leave,
    Settle,
    StartRun,
    StopRun,
    Welcome,
)
from ringfence_satellite.agent.connecting.dialing import tls_for, why_not
from ringfence_satellite.agent.connecting.hosts import HostAddresses, is_in_the_clear
from ringfence_satellite.agent.connecting.reconnecting import Backoff
from ringfence_satellite.agent.delivering.result_delivery import UNPACED, Pace, deliver
from ringfence_satellite.agent.delivering.spool import Spool
from ringfence_satellite.agent.packages.kept import Packages
from ringfence_satellite.agent.policy_state import AppliedPolicy
from ringfence_satellite.agent.running.place import Place
from ringfence_satellite.agent.running.runs import AskedRuns, Line
from ringfence_satellite.agent.running.secrets import SecretRequests
from ringfence_satellite.agent.scheduled.assignments import Assign, HeldAssignments
from ringfence_satellite.agent.scheduled.schedule import Duties
from ringfence_satellite.agent.settings import AgentSettings, TokenFileError
from ringfence_satellite.protocol import (
    CONTEXT,
    MAX_FRAME_BYTES,
    NARROWED,
    PACKAGES,
    REQUEST_ASSIGNMENTS_SECONDS,
    TASK,
    Authenticate,
    CloseCode,
    Heartbeat,
    JsonObject,
    RequestAssignments,
    SandboxPolicyApplied,
)

OPEN_SECONDS = 10.0
CLOSE_SECONDS = 2.0
_REFUSALS = {CloseCode.AUTH_FAILED, CloseCode.REVOKED, CloseCode.DELETED, CloseCode.REPLACED}
"""Closures that will come again until a human changes something; so that two agents which share a token do
not throw each other out as fast as they can."""
_DISMISSALS = {CloseCode.AUTH_FAILED, CloseCode.REVOKED, CloseCode.DELETED}
_log = structlog.get_logger("ringfence.satellite.agent")

Assess = Callable[[PolicySnapshot, int], SandboxPolicyApplied]
"""What of a policy, at a revision, this machine can enforce: worked out, without running anything."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a connection, or the attempt at one, ended.

    `dismissed`: the host said that we are none of its satellites; `deleted`: and that we will not be this one again.
    """

    reason: str
    refused: bool = False
    dismissed: bool = False
    deleted: bool = False


class _Connect(connect):
    """A client that follows no redirect.

    The token is for the host that was named, and for nobody it points at.
    """

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class Agent:
    """Keeps this satellite connected. `policy` is what the process's policy provider answers from."""

    def __init__(
        self,
        settings: AgentSettings,
        *,
        policy: AppliedPolicy,
        runs: AskedRuns,
        assess: Assess,
        duties: Duties,
        secrets: SecretRequests,
        spool: Spool,
        place: Place | None = None,
        packages: Packages | None = None,
        capabilities: JsonObject | None = None,
        backoff: Backoff | None = None,
        hosts: HostAddresses | None = None,
        trusted: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._trusted = trusted or ssl.create_default_context()
        self._policy = policy
        self._runs = runs
        self._place = place or Place()
        self._packages = packages
        self._assess = assess
        self._duties = duties
        self._secrets = secrets
        self._spool = spool
        self._capabilities = capabilities
        self._backoff = backoff or Backoff()
        self._hosts = hosts or HostAddresses(settings.urls)
        self._assigned = HeldAssignments()
        self._asking = Pace(per_second=1 / REQUEST_ASSIGNMENTS_SECONDS, burst=1.0)
        self._started = time.monotonic()
        self.connected = False
        """Whether a host has let us in, and the connection lasts."""
        self.connections = 0
        """How often a host has let us in."""

    async def serve(self) -> None:
        """Connect, and connect again, until cancelled; then cancel every run and say goodbye."""
        for url in filter(is_in_the_clear, self._settings.urls):
            _log.warning("the token and all scripts travel unencrypted: use wss://", url=url)
        while True:
            began = time.monotonic()
            try:
                ended = await self._connection()
            finally:
                self.connected = False
            if ended.dismissed:
                # Deleted, or another token holds: until the host lets us in again, it has nothing for us to do.
                self._assigned.forget()
                self._duties.assign(())
                await self._runs.stop()
            if ended.deleted:
                self._duties.confirm(())
                if self._packages is not None:
                    self._packages.want({})
            url = self._hosts.current
            # Whatever it was, another instance may do better, and none worse.
            self._hosts.move_on()
            pause = self._backoff.pause(lasted_seconds=time.monotonic() - began, refused=ended.refused)
            (_log.error if ended.refused else _log.warning)(
                "refused by the host" if ended.refused else "not connected",
                url=url,
                reason=ended.reason,
                again_in_seconds=round(pause, 2),
            )
            await asyncio.sleep(pause)

    async def _connection(self) -> Ended:
        """One connection, from the first packet to the last."""
        url = self._hosts.current
        try:
            token = await asyncio.to_thread(self._settings.read_token)
            opened = await self._open(url)
        except TokenFileError as error:
            return Ended(str(error), refused=True)
        except Exception as error:
            # Whatever is wrong with this address, another one may do.
            return Ended(why_not(error))
        try:
            async with opened as socket:
                return await self._talk(socket, token)
        except ConnectionClosed as error:
            code = None if error.rcvd is None else error.rcvd.code
            return Ended(
                _why_closed(error), code in _REFUSALS, code in _DISMISSALS, code == CloseCode.DELETED
            )
        except (OSError, WebSocketException) as error:
            return Ended(describe(error))

    async def _open(self, url: str) -> ClientConnection:
        return await _Connect(
            url,
            compression=None,
            max_size=MAX_FRAME_BYTES,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            proxy=proxy_for(url),
            ssl=tls_for(url, self._trusted),
            user_agent_header=f"ringfence-satellite/{self._settings.version}",
        )

    async def _talk(self, socket: ClientConnection, token: str) -> Ended:
        conversation = Conversation(self._policy, self._assigned)
        try:
            async with _owned_tasks() as spawn:
                send = partial(_send, socket)
                await socket.send(self._authenticate(token).encode())
                async with self._runs.connected(send) as line:
                    with self._secrets.connected(send), self._fetching(send):
                        while True:
                            message = await socket.recv()
                            # A binary message is no frame of this protocol: ignored, like a type that is not
                            # known.
                            for action in conversation.received(message) if isinstance(message, str) else ():
                                if isinstance(action, Leave):
                                    return await _leave(socket, action)
                                await self._act(socket, line, action, spawn)
        except asyncio.CancelledError:
            await self._say_what_ends(socket)
            # A clean goodbye lets the host show us as offline at once.
            await socket.close(CloseCode.NORMAL, "the satellite shuts down")
            raise

    def _fetching(self, send: Callable[[str], Awaitable[bool]]) -> AbstractContextManager[None]:
        return nullcontext() if self._packages is None else self._packages.connected(send)

    def _authenticate(self, token: str) -> Authenticate:
        settings = self._settings
        return Authenticate(
            client_id=settings.client_id,
            token=token,
            version=settings.version,
            capabilities=self._capabilities,
            sandbox_policy_held=self._policy.state.held or "none",
            assignments_held=self._assigned.current.digest,
            process=self._runs.process,
            runs=self._runs.held(),
            understands=(TASK, NARROWED, CONTEXT, *(() if self._packages is None else (PACKAGES,))),
            platform=None if self._packages is None else self._packages.platform,
        )

    async def _act(
        self,
        socket: ClientConnection,
        line: Line,
        action: Action,
        spawn: Callable[[Coroutine[object, object, None]], None],
    ) -> None:
        match action:
            case Welcome(satellite_id, acknowledges, keeps_runs, limits_follow_schedules, tells_packages):
                self.connected = True
                self.connections += 1
                _log.info("connected", satellite=satellite_id, url=self._hosts.current)
                spawn(self._heartbeats(socket))
                pace = line.pace if limits_follow_schedules else Pace()
                line.pace.follow(self._assigned.current.runs_per_second)
                spawn(deliver(self._spool, partial(_send, socket), acknowledged=acknowledges, pace=pace))
                line.keeps = keeps_runs
                if self._packages is not None:
                    if tells_packages:
                        spawn(self._packages.tell(partial(_send, socket)))
                    else:
                        self._packages.want_nothing_unless_kept()
                if keeps_runs:
                    # What was asked for is not counted against us: the acknowledgements are pace enough.
                    spawn(self._runs.outputs.tell(partial(_send, socket)))
                    free = Pace(per_second=UNPACED, burst=UNPACED)
                    spawn(deliver(self._runs.spool, partial(_send, socket), acknowledged=True, pace=free))
            case Assign(assignments, refused, named):
                _log.info("assigned", assignments=len(assignments), refused=len(refused))
                self._duties.assign(assignments, named)
                line.pace.follow(self._assigned.current.runs_per_second)
                for complaint in refused:
                    await socket.send(complaint.encode())
            case Confirm(named):
                self._duties.confirm(named)
            case Learn(facts):
                self._place.facts = facts
            case HavePackages(sets):
                if self._packages is not None:
                    self._packages.want(sets)
            case HandPiece(piece):
                if self._packages is not None:
                    self._packages.answered(piece)
            case AskForAssignments(held):
                spawn(self._ask_for_assignments(socket, held))
            case Settle(ack):
                if not ack.accepted:
                    _log.warning("the host refused a result", result=ack.result_id)
                self._spool.settle(ack.result_id)
                self._runs.spool.settle(ack.result_id)
            case HandOver(answer):
                self._secrets.answered(answer)
            case Acknowledge(snapshot, revision, traceparent):
                with tracing.span(
                    "apply the policy", traceparent, kind=tracing.Kind.CONSUMER, revision=revision
                ):
                    applied = self._assess(snapshot, revision)
                    _log.info(
                        "policy applied",
                        revision=revision,
                        downgrades=[one.layer for one in applied.downgrades],
                    )
                    caused_by = tracing.current() or traceparent
                    await socket.send(applied.model_copy(update={"traceparent": caused_by}).encode())
            case StartRun(frame):
                await self._runs.start(frame, line)
                _log.debug("run started", run_id=frame.run_id, kind=frame.kind)
            case StopRun(frame):
                self._runs.cancel(frame.run_id)
                _log.info("run cancelled", run_id=frame.run_id)
            case Leave():
                raise AssertionError("the caller leaves by itself")

    async def _ask_for_assignments(self, socket: ClientConnection, held: str) -> None:
        pause = self._asking.delay()
        _log.warning(
            "the host's changes do not fit the assignments held here; asking for all of them",
            in_seconds=pause,
        )
        await asyncio.sleep(pause)
        await _send(socket, RequestAssignments(held=held).encode())

    async def _say_what_ends(self, socket: ClientConnection) -> None:
        """End every run, and tell the host now, as far as it listens; it is told again the next time otherwise."""
        stopped = await self._runs.stop()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                for result_id in stopped:
                    frame = await self._runs.spool.read(result_id)
                    if frame is not None and not await _send(socket, frame):
                        return
        except TimeoutError:
            return

    async def _heartbeats(self, socket: ClientConnection) -> None:
        while True:
            uptime = time.monotonic() - self._started
            if not await _send(
                socket, Heartbeat(version=self._settings.version, uptime_seconds=uptime).encode()
            ):
                return
            await asyncio.sleep(self._settings.heartbeat_seconds)


async def _send(socket: ClientConnection, text: str) -> bool:
    """Send, unless the connection has just gone: its reader finds out too, and deals with it."""
    try:
        await socket.send(text)
    except ConnectionClosed:
        return False
    return True


@asynccontextmanager
async def _owned_tasks() -> AsyncIterator[Callable[[Coroutine[object, object, None]], None]]:
    """Tasks that are cancelled, and waited for, when the block is left in whatever way."""
    tasks: set[asyncio.Task[None]] = set()

    def ended(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a task of the connection failed", error=describe(error))

    def spawn(coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(coroutine)
        tasks.add(task)
        task.add_done_callback(ended)

    try:
        yield spawn
    finally:
        waiting = list(tasks)
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)


async def _leave(socket: ClientConnection, action: Leave) -> Ended:
    await socket.close(action.code, action.reason.encode()[:120].decode(errors="ignore"))
    return Ended(action.reason, action.refused, dismissed=action.refused)


def _why_closed(error: ConnectionClosed) -> str:
    if error.rcvd is None:
        return "the connection was lost"
    return f"the host closed the connection: {error.rcvd.code} {error.rcvd.reason}".rstrip()
