"""Runs as those see them who ask for them: on any instance, wherever their satellite is."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Any
from uuid import UUID

import structlog
from ringfence import PluginContext, tracing
from ringfence.redaction import describe
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_satellite.hooks import (
    SatelliteRunCancelRequested,
    SatelliteRunRequested,
    satellite_run_cancel_requested,
    satellite_run_requested,
    stream_of,
)
from ringfence_satellite.protocol import JsonObject, RunScript
from ringfence_satellite.server.runs import states, table
from ringfence_satellite.server.runs.endings import write_end
from ringfence_satellite.server.runs.table import AWAY_SECONDS, MAX_UNFINISHED, Run
from ringfence_satellite.server.runs.watchers import Watchers
from ringfence_satellite.server.satellites import one as satellite_of
from ringfence_satellite.service import (
    NoAnswer,
    RunEnd,
    RunFailed,
    RunOutcome,
    SatelliteAway,
    SatelliteBusy,
    UnknownSatellite,
)

DELIVER_WITHIN_SECONDS = 300.0
"""How long a run waits for its satellite unless whoever asks says otherwise."""
SHORTLY_SECONDS = 30.0
"""How long a plugin's run waits for a satellite that is between two connections."""
LOOK_SECONDS = 2.0
"""How long somebody who waits may learn late of what this instance was not told of."""
LOOK_FOR_OUTPUT_SECONDS = 1.0
"""The same of what a run writes, of which no other instance tells."""
_log = structlog.get_logger("ringfence.satellite.runs")


_TOO_MANY = f"{MAX_UNFINISHED} runs are under way on this satellite, or wait for it"


class Runs:
    """Takes requests, and answers what has become of them. `nudge` has this instance look after a satellite's runs."""

    def __init__(self, context: PluginContext, watchers: Watchers, nudge: Callable[[UUID], None]) -> None:
        self._context = context
        self._watchers = watchers
        self._nudge = nudge
        self._abandoned: asyncio.Queue[UUID] = asyncio.Queue()

    async def ask(
        self,
        satellite: UUID,
        frame: RunScript,
        *,
        by: str | None,
        deliver_within: float = DELIVER_WITHIN_SECONDS,
    ) -> UUID:
        """Have a script run as soon as the satellite is there; the run's id, which takes the place of the frame's.

        Raises `UnknownSatellite` and `SatelliteBusy`.
        """
        id = uuid.uuid4()
        async with self._context.sessions.begin() as session:
            await self.ask_in(session, satellite, frame, id=id, by=by, deliver_within=deliver_within)
        self._nudge(satellite)
        return id

    async def ask_in(
        self,
        session: AsyncSession,
        satellite: UUID,
        frame: RunScript,
        *,
        id: UUID,
        by: str | None,
        deliver_within: float,
    ) -> bool:
        """The same in the caller's transaction, once for each id; False if the run has been asked for before.

        Raises also `ValueError`, for an id that is another satellite's run.
        """
        room = await table.room(session, satellite)
        if room is None:
            raise UnknownSatellite(f"there is no satellite {satellite}")
        # Behind the satellite's lock: who asks at the same time has been waited for.
        if (known := await table.one(session, id)) is not None:
            if known.satellite_id != satellite:
                raise ValueError(f"{id} is a run on another satellite")
            return False
        if room == 0:
            raise SatelliteBusy(_TOO_MANY)
        frame = frame.model_copy(update={"run_id": str(id), "traceparent": tracing.current()})
        await table.ask(session, satellite, id, frame, by=by, deliver_within=deliver_within)
        await self._context.emit_hook(
            satellite_run_requested,
            SatelliteRunRequested(
                satellite_id=satellite, run_id=id, kind=frame.kind.value, timeout_ms=frame.timeout_ms
            ),
            session=session,
            stream=stream_of(satellite),
            actor=by,
        )
        return True

    async def end_of(self, session: AsyncSession, id: UUID) -> RunEnd | None:
        """How a run has ended; None while it has not. Raises `RunFailed` when there is none of this id."""
        run = await table.one(session, id)
        if run is None:
            raise UnknownSatellite("the satellite was deleted, or the run's result is no longer kept")
        if run.outcome is None:
            return None
        return RunEnd(run.outcome, run.result, run.reason)

    async def show(self, id: UUID, *, satellite: UUID | None = None) -> Run | None:
        """The run as it is now; None if there is none, or none of the satellite's where that is given."""
        async with self._context.sessions() as session:
            return await table.one(session, id, satellite=satellite)

    async def output(self, id: UUID, *, after: int) -> list[dict[str, Any]]:
        """What the run has written so far, after the piece of that number."""
        async with self._context.sessions() as session:
            return await table.output(session, id, after=after)

    async def until_news(
        self, id: UUID, *, seconds: float, output_after: int | None = None, leaves: bool = True
    ) -> None:
        """Return when the run has ended, is no longer there, or after so many seconds.

        Where `output_after` is given, also when it has written more than that piece. Who `leaves` waits no longer
        than until this instance drains, and asks again elsewhere.
        """
        wait = self._context.waiting if leaves else asyncio.timeout
        deadline = time.monotonic() + seconds
        with self._watchers.watching(id) as changed:
            while (left := deadline - time.monotonic()) > 0:
                changed.clear()
                async with self._context.sessions() as session:
                    if await table.has_news(session, id, output_after=output_after):
                        return
                pause = LOOK_SECONDS if output_after is None else LOOK_FOR_OUTPUT_SECONDS
                try:
                    async with wait(min(left, pause)):
                        await changed.wait()
                except TimeoutError:
                    if leaves and self._context.draining:
                        return

    async def cancel(self, id: UUID, *, by: str | None) -> None:
        """Have the run ended: at once if it has not been handed over, and else where it runs. Again is as once."""
        async with self._context.sessions.begin() as session:
            satellite = await self.cancel_in(session, id, by=by)
        if satellite is not None:
            self._watchers.changed(id)
            self._nudge(satellite)

    async def cancel_in(self, session: AsyncSession, id: UUID, *, by: str | None) -> UUID | None:
        """The same in the caller's transaction; the run's satellite, if there is anything to end."""
        run = await table.lock(session, id)
        if run is None or not await table.cancel(session, id, by=by):
            return None
        await self._context.emit_hook(
            satellite_run_cancel_requested,
            SatelliteRunCancelRequested(satellite_id=run.satellite_id, run_id=id),
            session=session,
            stream=stream_of(run.satellite_id),
            actor=by,
        )
        if (end := states.cancelled(run.course)) is not None:
            await write_end(self._context, session, run=id, satellite=run.satellite_id, how=end)
        return run.satellite_id

    async def run(self, satellite: UUID, frame: RunScript) -> JsonObject:
        """Run a script on a satellite that is online, and answer its result as JSON.

        A run that nobody waits for any more is ended. Raises `RunFailed`: `UnknownSatellite`, `SatelliteAway` or
        `NoAnswer`.
        """
        async with self._context.sessions() as session:
            known = await satellite_of(session, satellite)
        if known is None:
            raise UnknownSatellite(f"there is no satellite {satellite}")
        if known.status != "online":
            never = "offline: it has never connected"
            raise SatelliteAway(
                f"satellite {known.name} is {never if known.status == 'never' else known.status}"
            )
        id = await self.ask(satellite, frame, by=None, deliver_within=SHORTLY_SECONDS)
        try:
            patience = SHORTLY_SECONDS + frame.timeout_ms / 1000 + AWAY_SECONDS + table.GRACE_SECONDS
            await self.until_news(id, seconds=2 * patience, leaves=False)
        except BaseException:
            # Not here: this task may be cancelled, and must not wait then.
            self._abandoned.put_nowait(id)
            raise
        return _result(await self.show(id))

    async def end_the_abandoned(self) -> None:
        """End the runs of plugins that wait for them no more, until cancelled."""
        while True:
            id = await self._abandoned.get()
            try:
                await self.cancel(id, by=None)
            except (SQLAlchemyError, OSError) as error:
                _log.warning(
                    "cannot end a run that nobody waits for; it goes on", run=str(id), error=describe(error)
                )


def _result(run: Run | None) -> JsonObject:
    if run is None:
        raise UnknownSatellite("the satellite was deleted")
    if run.result is not None:
        return run.result
    failures: dict[RunOutcome | None, type[RunFailed]] = {
        RunOutcome.LOST: NoAnswer,
        RunOutcome.EXPIRED: SatelliteAway,
        RunOutcome.REFUSED: SatelliteAway,
        None: NoAnswer,
    }
    raise failures.get(run.outcome, RunFailed)(run.reason or "the run did not end in time")
