"""Runs as the instance sees them that holds their satellite: handed over, stopped where they run, and answered.

What there is to do about runs follows from the table and from who is connected here, and is looked for whenever
something has happened, and again and again: whatever was missed, or was left half done by an instance that died, is
done at the next look. The events are only what makes it quick.

Threat: a satellite that has been taken over answers for another's runs. Mechanism: a run is looked up by its id and by
the satellite that has proved who it is, in the transaction that writes its end, and an end is written once. Not
covered: what a satellite says of its own runs cannot be checked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from uuid import UUID

import structlog
from ringfence import Event, PluginContext
from ringfence.backoff import Pauses
from ringfence.bounded import cleaned
from ringfence.redaction import describe
from ringfence.web import TextMessage
from sqlalchemy.exc import SQLAlchemyError

from ringfence_satellite.hooks import SatelliteRunFinished
from ringfence_satellite.protocol import (
    CancelRun,
    JsonObject,
    ProtocolError,
    ResultAck,
    RunAccepted,
    RunFinished,
    set_of,
)
from ringfence_satellite.server.connections.connection import Connection
from ringfence_satellite.server.connections.relay import Relay
from ringfence_satellite.server.runs import states, table
from ringfence_satellite.server.runs.blotting import Blotting
from ringfence_satellite.server.runs.endings import write_end
from ringfence_satellite.server.runs.ids import id_of
from ringfence_satellite.server.runs.states import Adopt, End, TellToStop, There
from ringfence_satellite.server.runs.table import AWAY_SECONDS, BATCH, GRACE_SECONDS, Standing
from ringfence_satellite.server.runs.watchers import Watchers
from ringfence_satellite.service import RunOutcome

LOOK_SECONDS = 2.0
"""How often it is looked for what nobody has told of, while any run of the fleet has not ended."""
SELDOM_SECONDS = 10.0
"""The same while all have."""
RETRY_SECONDS = (0.5, 2.0)
"""The first and the longest pause after the database could not be reached."""
MAX_REASON = 2000
_log = structlog.get_logger("ringfence.satellite.runs")


class Deliveries:
    """Sees to the runs of the satellites of this instance."""

    def __init__(
        self,
        context: PluginContext,
        relay: Relay,
        watchers: Watchers,
        *,
        grace_seconds: float = GRACE_SECONDS,
        away_seconds: float = AWAY_SECONDS,
        before_run: Callable[[Connection, str], None] = lambda *_: None,
    ) -> None:
        self._blotting = Blotting(context)
        self._before_run = before_run
        self._context = context
        self._relay = relay
        self._watchers = watchers
        self._grace = grace_seconds
        self._away = away_seconds
        self._due: set[UUID] = set()
        self._wanted = asyncio.Event()

    # What makes it quick ----------------------------------------------------------------------------------

    def nudge(self, satellite: UUID) -> None:
        """Look after the runs of a satellite now."""
        if self._relay.connection_of(satellite) is not None:
            self._due.add(satellite)
        # Wherever the satellite is, or if it is nowhere: its runs have deadlines.
        self._wanted.set()

    async def ended(self, event: Event[SatelliteRunFinished]) -> None:
        """A run has ended, somewhere. One that was given up is not to go on where it may be running after all."""
        fact = event.payload
        self._watchers.changed(fact.run_id)
        connection = self._relay.connection_of(fact.satellite_id)
        if connection is None or not connection.runs.ended(str(fact.run_id)):
            return
        if fact.outcome == RunOutcome.LOST:
            _tell_to_stop(connection, fact.run_id)

    # What has to be done ----------------------------------------------------------------------------------

    async def look_until_cancelled(self) -> None:
        """Do what there is to do, when something has happened and from time to time.

        A database that fails is waited for.
        """
        pauses, looked_at, pause = Pauses(*RETRY_SECONDS), -SELDOM_SECONDS, LOOK_SECONDS
        while True:
            due, now = self._due, time.monotonic()
            self._due = set()
            self._wanted.clear()
            everywhere = now - looked_at >= pause
            try:
                pause = LOOK_SECONDS if await self._any_unfinished() else SELDOM_SECONDS
                if pause == LOOK_SECONDS:
                    await self._look(None if everywhere else due)
                    if everywhere:
                        await self._end_the_overdue()
                if everywhere:
                    looked_at = now
            except (SQLAlchemyError, OSError) as error:
                self._due |= due
                _log.warning("cannot look after runs; trying again", error=describe(error))
                await asyncio.sleep(pauses.after_failure())
                continue
            pauses.succeeded()
            try:
                async with asyncio.timeout(max(0.0, looked_at + pause - time.monotonic())):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    async def forget_old(self, *, keep_seconds: float) -> None:
        """Drop all runs that ended so long ago. Raises what the database raises."""
        while await self.forget(keep_seconds=keep_seconds) == BATCH:
            pass

    async def forget(self, *, keep_seconds: float) -> int:
        """Drop some runs that ended so long ago; answers how many. Raises what the database raises."""
        async with self._context.sessions.begin() as session:
            return await table.forget(session, keep_seconds=keep_seconds)

    async def _any_unfinished(self) -> bool:
        async with self._context.sessions.begin() as session:
            return await table.any_unfinished(session)

    async def _look(self, satellites: set[UUID] | None) -> None:
        here = {
            one.id: one
            for one in self._relay.admitted()
            if one.ending is None and (satellites is None or one.satellite in satellites)
        }
        while here and (full := await self._look_after(here)) is not None:
            # What finds no room there now would find none at once either, and must not stand before the others.
            for connection in full:
                here.pop(connection.id, None)

    async def _look_after(self, here: dict[UUID, Connection]) -> list[Connection] | None:
        """Do some of what is due; those that had no room for it, or None if nothing was due."""
        scripts: list[tuple[Connection, UUID, TextMessage]] = []
        stopped: list[tuple[Connection, UUID]] = []
        async with self._context.sessions.begin() as session:
            due = await table.due(session, here)
            for run in due:
                connection = here[run.held_by]  # type: ignore[index]
                there = There(
                    connection.id,
                    connection.process,
                    connection.runs.has_signed_in_with(str(run.id)),
                    connection.understands,
                )
                move = states.next_move(run.course, there)
                if isinstance(move, End):
                    await write_end(self._context, session, run=run.id, satellite=run.satellite_id, how=move)
                elif move is not None:
                    frame = await table.make(
                        session,
                        run,
                        move,
                        to=there.connection,
                        process=there.process,
                        grace_seconds=self._grace,
                    )
                    if frame is not None:
                        scripts.append((connection, run.id, TextMessage(frame)))
                    if isinstance(move, TellToStop):
                        stopped.append((connection, run.id))
                if isinstance(move, Adopt):
                    connection.runs.adopted(str(run.id))
        for run in due:
            self._watchers.changed(run.id)
        full = [one for one, id, message in scripts if not await self._hand_over(one, id, message)]
        full += [one for one, id in stopped if not await self._stop(one, id)]
        return full if due else None

    async def _hand_over(self, connection: Connection, id: UUID, message: TextMessage) -> bool:
        connection.runs.handed_over(str(id))
        if (packages := set_of(message.text)) is not None:
            self._before_run(connection, packages)
        if not connection.send(message):
            connection.runs.taken_back(str(id))
            async with self._context.sessions.begin() as session:
                await table.take_back(session, id, connection.id)
            return False
        if connection.process is None:
            # It will not be handed to this agent again, whatever happens.
            async with self._context.sessions.begin() as session:
                await table.forget_script(session, id)
        return True

    async def _stop(self, connection: Connection, id: UUID) -> bool:
        if _tell_to_stop(connection, id):
            return True
        async with self._context.sessions.begin() as session:
            await table.not_told_to_stop(session, id)
        return False

    async def _end_the_overdue(self) -> None:
        while True:
            async with self._context.sessions.begin() as session:
                overdue = await table.overdue(session, away_seconds=self._away)
                for run in overdue:
                    how = states.unanswered(run.course, away=run.away)
                    await write_end(self._context, session, run=run.id, satellite=run.satellite_id, how=how)
            self._tell(overdue)
            if not overdue:
                return

    # What satellites say ----------------------------------------------------------------------------------

    async def accepted(self, connection: Connection, frame: RunAccepted) -> bool:
        """A satellite has a run: from now on its script is not kept here. False when it has no such run to do."""
        id = id_of(frame.run_id)
        if id is None:
            return False
        was_asked = connection.runs.accepted(frame.run_id)
        async with self._context.sessions.begin() as session:
            run = await table.lock(session, id)
            if run is not None and run.satellite_id == connection.satellite:
                await table.running(
                    session,
                    id,
                    connection=connection.id,
                    process=connection.process,
                    grace_seconds=self._grace,
                )
        if run is None:
            # It has been given up meanwhile, and is not to go on there.
            _tell_to_stop(connection, id)
            return was_asked
        return run.satellite_id == connection.satellite

    async def answered(self, connection: Connection, frame: RunFinished) -> bool:
        """A satellite has answered. False when it had no such run to answer."""
        taken = await self._answered(connection, frame)
        if frame.result_id is not None:
            # What is not wanted is settled too: it would not be wanted the next time either.
            connection.answer(TextMessage(ResultAck(result_id=frame.result_id, accepted=taken).encode()))
        return taken

    async def _answered(self, connection: Connection, frame: RunFinished) -> bool:
        was_asked = connection.runs.ended(frame.run_id)
        id = id_of(frame.run_id)
        if id is None:
            return False
        result, error = await self._blotting.blotted(id, *_outcome(frame))
        async with self._context.sessions.begin() as session:
            run = await table.lock(session, id)
            if run is None:
                # It has ended already. One that the satellite never had is only claimed.
                return was_asked and await table.one(session, id, satellite=connection.satellite) is not None
            if run.satellite_id != connection.satellite:
                return False
            how = states.answered(error, frame.cause)
            await write_end(
                self._context, session, run=id, satellite=run.satellite_id, how=how, result=result
            )
        # A look may have taken it for one that goes on behind this connection, while its end was written.
        connection.runs.ended(frame.run_id)
        self._watchers.changed(id)
        return True

    async def left(self, connection: Connection) -> None:
        """A connection has ended, and with it the runs that its agent does not keep."""
        if not connection.ends_runs:
            return
        try:
            async with self._context.sessions.begin() as session:
                runs = await table.behind(session, connection.id)
                for run in runs:
                    if (how := states.cut_off(run.course)) is not None:
                        await write_end(
                            self._context, session, run=run.id, satellite=run.satellite_id, how=how
                        )
        except (SQLAlchemyError, OSError) as error:
            # They end when the satellite is back, or has not answered in time.
            _log.warning("cannot end the runs of a connection that was lost", error=describe(error))
            return
        self._tell(runs)

    def _tell(self, runs: Sequence[Standing]) -> None:
        for run in runs:
            self._watchers.changed(run.id)


def _tell_to_stop(connection: Connection, run: UUID) -> bool:
    return connection.send(TextMessage(CancelRun(run_id=str(run)).encode()))


def _outcome(frame: RunFinished) -> tuple[JsonObject | None, str | None]:
    """The result, or why there is none."""
    try:
        return frame.outcome().to_wire(), None
    except ProtocolError as error:
        return None, cleaned(str(error), MAX_REASON)
