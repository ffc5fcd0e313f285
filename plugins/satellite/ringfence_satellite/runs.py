"""Runs that somebody waits for: asked of a satellite, answered by it or by what became of it.

An instance that holds the satellite asks it directly. One that does not leaves the request in
`satellite_runs` and announces it by a broadcast hook; whoever holds the satellite takes it, and announces
the answer in the same way. The events carry ids alone: scripts and outputs live in that row until the
answer is fetched, or the request expires.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from uuid import UUID

import structlog
from ringfence import Event, PluginContext
from ringfence.bounded import cleaned
from ringfence.redaction import describe
from ringfence.web import TextMessage
from sqlalchemy import text

from ringfence_satellite.connection import Connection
from ringfence_satellite.hooks import (
    SatelliteRunFinished,
    SatelliteRunRequested,
    satellite_run_finished,
    satellite_run_requested,
    stream_of,
)
from ringfence_satellite.protocol import (
    Frame,
    JsonObject,
    ProtocolError,
    RunFinished,
    RunScript,
    parse_from_core,
    parse_from_satellite,
)
from ringfence_satellite.relay import Relay
from ringfence_satellite.satellites import one
from ringfence_satellite.service import NoAnswer, RunFailed, SatelliteAway, UnknownSatellite

GRACE_SECONDS = 15.0
"""How long an answer may take beyond the script's own time: to be queued there, prepared, and sent back."""
SWEEP_SECONDS = 60.0
MAX_RUNS_PER_SATELLITE = 64

_ASK = text("""
    INSERT INTO satellite_runs (id, satellite_id, request, expires_at)
    VALUES (:id, :satellite, :request, now() + make_interval(secs => :seconds))
""")
_REQUEST = text("SELECT request FROM satellite_runs WHERE id = :id AND answer IS NULL AND expires_at > now()")
NO_ANSWER = "noAnswer"
"""What an instance adds to an error that it passes on to another, where the satellite has not answered in time."""
_ANSWER = text("UPDATE satellite_runs SET answer = :answer WHERE id = :id AND answer IS NULL")
_FETCH = text("DELETE FROM satellite_runs WHERE id = :id RETURNING answer")
_SWEEP = text("DELETE FROM satellite_runs WHERE expires_at < now() - interval '1 minute'")
F = TypeVar("F", bound=Frame)
_log = structlog.get_logger("ringfence.satellite.runs")


class Runs:
    """Asks satellites to run scripts, on this instance and through the others."""

    def __init__(self, context: PluginContext, relay: Relay, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self._context = context
        self._relay = relay
        self._grace = grace_seconds
        self._waiting: dict[UUID, asyncio.Future[str]] = {}

    async def run(self, satellite: UUID, frame: RunScript) -> JsonObject:
        """The run's result as JSON. Raises `RunFailed`: `UnknownSatellite`, `SatelliteAway` or `NoAnswer`."""
        connection = self._relay.connection_of(satellite)
        if connection is not None:
            return _outcome(await self._ask(connection, frame))
        async with self._context.sessions() as session:
            known = await one(session, satellite)
        if known is None:
            raise UnknownSatellite(f"there is no satellite {satellite}")
        if known.connection is None or known.status != "online":
            raise SatelliteAway(f"satellite {known.name} is {_presence(known.status)}")
        return _outcome(await self._ask_elsewhere(satellite, frame))

    def finished(self, connection: Connection, frame: RunFinished) -> bool:
        """A satellite has answered. False when nobody asked this connection for that run."""
        answer = None if connection.runs is None else connection.runs.pop(frame.run_id, None)
        if answer is None:
            return False
        if not answer.done():
            answer.set_result(frame)
        return True

    @staticmethod
    def abandon(connection: Connection) -> None:
        """The connection has ended: nothing that was asked of it will be answered."""
        for answer in (connection.runs or {}).values():
            if not answer.done():
                answer.set_exception(SatelliteAway("the satellite's connection was lost during the run"))
        connection.runs = None

    # Between instances ------------------------------------------------------------------------------------

    async def requested(self, event: Event[SatelliteRunRequested]) -> None:
        """Take a request of another instance, if it is this one that holds the satellite."""
        fact = event.payload
        connection = self._relay.connection_of(fact.satellite_id)
        if connection is not None and fact.run_id not in self._waiting:
            self._spawn(self._run_for_another(connection, fact), f"run {fact.run_id}")

    async def answered(self, event: Event[SatelliteRunFinished]) -> None:
        """Fetch the answer to a request of this instance."""
        if (waiting := self._waiting.get(event.payload.run_id)) is not None and not waiting.done():
            self._spawn(self._fetch(event.payload.run_id, waiting), f"answer {event.payload.run_id}")

    async def sweep_until_cancelled(self) -> None:
        """Remove requests whose instance died before it fetched the answer."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await _logged("sweep", self._sweep())

    async def _sweep(self) -> None:
        async with self._context.sessions.begin() as session:
            await session.execute(_SWEEP)

    async def _ask(self, connection: Connection, frame: RunScript) -> RunFinished:
        runs = connection.runs
        if runs is None:
            runs = connection.runs = {}
        if len(runs) >= MAX_RUNS_PER_SATELLITE:
            raise SatelliteAway(f"{len(runs)} runs are under way on this satellite already")
        answer: asyncio.Future[RunFinished] = asyncio.get_running_loop().create_future()
        runs[frame.run_id] = answer
        try:
            if not connection.send(TextMessage(frame.encode())):
                raise SatelliteAway("the satellite does not read what it is sent")
            async with asyncio.timeout(self._patience(frame)):
                return await answer
        except TimeoutError as error:
            raise NoAnswer(f"the satellite did not answer within {self._patience(frame):g} s") from error
        finally:
            runs.pop(frame.run_id, None)

    async def _ask_elsewhere(self, satellite: UUID, frame: RunScript) -> RunFinished:
        run_id = uuid.UUID(frame.run_id)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[run_id] = answer
        seconds = self._patience(frame) + self._grace
        try:
            async with self._context.sessions.begin() as session:
                values = {"id": run_id, "satellite": satellite, "request": frame.encode(), "seconds": seconds}
                await session.execute(_ASK, values)
                await self._context.emit_hook(
                    satellite_run_requested,
                    SatelliteRunRequested(satellite_id=satellite, run_id=run_id),
                    session=session,
                    stream=stream_of(satellite),
                )
            async with asyncio.timeout(seconds):
                return _read(await answer, parse_from_satellite, RunFinished)
        except TimeoutError as error:
            raise NoAnswer("the instance that holds the satellite did not answer in time") from error
        finally:
            del self._waiting[run_id]
            async with self._context.sessions.begin() as session:
                await session.execute(_FETCH, {"id": run_id})

    async def _run_for_another(self, connection: Connection, fact: SatelliteRunRequested) -> None:
        async with self._context.sessions() as session:
            request = (await session.execute(_REQUEST, {"id": fact.run_id})).scalar_one_or_none()
        if request is None:
            return
        try:
            answer = await self._ask(connection, _read(request, parse_from_core, RunScript))
        except RunFailed as error:
            said = {"error": cleaned(str(error), 2000), NO_ANSWER: isinstance(error, NoAnswer)}
            answer = RunFinished.of(str(fact.run_id), said)
        async with self._context.sessions.begin() as session:
            await session.execute(_ANSWER, {"id": fact.run_id, "answer": answer.encode()})
            await self._context.emit_hook(
                satellite_run_finished,
                SatelliteRunFinished(satellite_id=fact.satellite_id, run_id=fact.run_id),
                session=session,
                stream=stream_of(fact.satellite_id),
            )

    async def _fetch(self, run_id: UUID, waiting: asyncio.Future[str]) -> None:
        async with self._context.sessions.begin() as session:
            answer = (await session.execute(_FETCH, {"id": run_id})).scalar_one_or_none()
        if answer is not None and not waiting.done():
            waiting.set_result(answer)

    def _patience(self, frame: RunScript) -> float:
        return frame.timeout_ms / 1000 + self._grace

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._context.spawn(_logged(name, work), name=name)


async def _logged(name: str, work: Coroutine[Any, Any, None]) -> None:
    """Do `work`; whatever it fails at costs this one answer, and whoever waits for it is told in time."""
    try:
        await work
    except Exception as error:
        _log.error("could not pass on a run", work=name, error=describe(error))


def _read(text: str, parse: Callable[[str], object], kind: type[F]) -> F:
    """A frame that another instance, maybe of another release, has written."""
    try:
        frame = parse(text)
    except ProtocolError as error:
        raise SatelliteAway(f"the instances do not understand one another: {error}") from error
    if not isinstance(frame, kind):
        raise SatelliteAway(f"the instances do not understand one another: no {kind.TYPE} came")
    return frame


def _outcome(answer: RunFinished) -> JsonObject:
    if answer.error is not None and (answer.model_extra or {}).get(NO_ANSWER) is True:
        raise NoAnswer(answer.error)
    try:
        return answer.outcome().to_wire()
    except ProtocolError as error:
        raise SatelliteAway(str(error)) from error


def _presence(status: str) -> str:
    return {"never": "not connected: it never was", "online": "between two connections"}.get(status, status)
