"""One attempt at a job: its handler runs, and what it wrote is committed together with the job's end.

Threat: an instance does a job, and dies, or loses the database, before it could say so: the job is done twice. Or it
was frozen, another has taken the job over, and both write. Mechanism: the last statement of the handler's transaction
ends the job, on the condition that it is still this attempt's; if it is not, everything is undone. Not covered: what a
handler does outside of its session (a mail, a script) is done at least once for a job that succeeds.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ringfence import redaction, tracing
from ringfence.acting import acting
from ringfence.bounded import cleaned
from ringfence.jobs.board import JobService
from ringfence.jobs.job import JobError, JobFailed, Report, RunningJob
from ringfence.jobs.store import SUCCEED, Claimed, Store
from ringfence.storage.outages import outage
from ringfence.tasks import cancel, contained

ERROR_CHARACTERS = 4000
OUTAGE_SECONDS = 1.0
"""How long an attempt that has lost the database is left alone. That is no failure of its own."""
_QUERY_CANCELED = "57014"


class Stop(enum.Enum):
    """Why an attempt is to end before its handler has."""

    CANCELLED = enum.auto()
    """Somebody has cancelled the job."""
    INTERRUPTED = enum.auto()
    """This instance stops, or does not reach the database any more."""
    LOST = enum.auto()
    """The job is not this instance's any more."""


class NotOursError(RuntimeError):
    """Another has taken the job over, or the database was set back: nothing of this attempt counts."""


class StoppedError(Exception):
    """The attempt was ended, for `why`."""

    def __init__(self, why: Stop) -> None:
        super().__init__(why.name.lower())
        self.why = why


@dataclass(frozen=True, slots=True)
class Succeeded:
    """Handler and job have ended, and it is committed."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The handler has failed; `final`: another attempt would be of no use."""

    error: str
    final: bool = False
    cause: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The attempt was ended, for `why`; the next one is not before so many seconds."""

    why: Stop
    error: str
    pause: float = 0.0


Outcome = Succeeded | Failed | Ended


@dataclass(slots=True, eq=False)
class Attempt:
    """An attempt that this instance makes."""

    claimed: Claimed
    service: JobService
    running: RunningJob[Any] | None = None
    ending: bool = False
    """The handler has returned: nothing stops the attempt any more."""
    _stop: asyncio.Future[Stop] = field(init=False)

    def __post_init__(self) -> None:
        self._stop = asyncio.get_running_loop().create_future()

    def stop(self, why: Stop) -> None:
        """Have the attempt end, if its handler has not returned. The first reason counts."""
        if self.ending or self._stop.done():
            return
        if why is Stop.CANCELLED and self.running is not None:
            self.running.cancelled.set()
        self._stop.set_result(why)

    async def make(self, sessions: async_sessionmaker[AsyncSession], store: Store, report: Report) -> Outcome:
        """Have the handler do the job. Never raises, but when it is itself cancelled."""
        try:
            self.running = self._read(report)
            async with sessions.begin() as session:
                transaction, begun = session.get_transaction(), _connections_of(session)
                await self._handle(self.running, session)
                self.ending = True
                if session.get_transaction() is not transaction:
                    raise JobError(
                        f"{self.service.name} ended the transaction that it was given: leave commit and rollback to "
                        "the host, and raise to undo"
                    )
                await session.flush()
                if not begun:
                    # There is nothing to be committed with it, so BEGIN and COMMIT would be exchanges for nothing.
                    await session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
                ended = await session.execute(SUCCEED, store.ours(self.claimed))
                if getattr(ended, "rowcount", 0) != 1:
                    raise NotOursError
            return Succeeded()
        except StoppedError as stopped:
            return Ended(stopped.why, _REASONS[stopped.why])
        except NotOursError:
            return Ended(Stop.LOST, _REASONS[Stop.LOST])
        except JobFailed as failure:
            return Failed(_told(redaction.redacted(str(failure)) or "JobFailed"), final=True, cause=failure)
        except ValidationError as error:
            if self.running is None:
                model = self.service.job.payload.__name__
                return Failed(
                    _told(f"its payload does not fit {model}: {redaction.problems(error)}"), final=True
                )
            return Failed(_told(redaction.describe(error)), cause=error)
        except (SQLAlchemyError, OSError) as error:
            if (what := outage(error)) is not None and not _is_cancelled_query(error):
                return Ended(
                    Stop.INTERRUPTED,
                    _told(f"the database was lost in the middle of it: {what}"),
                    OUTAGE_SECONDS,
                )
            return Failed(_told(redaction.describe(error)), cause=error)
        except Exception as error:
            return Failed(_told(redaction.describe(error)), cause=error)

    def _read(self, report: Report) -> RunningJob[Any]:
        one, job = self.claimed, self.service.job
        deadline = None
        if job.deadline_seconds is not None:
            deadline = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=job.deadline_seconds)
        return RunningJob(
            id=one.id,
            payload=job.payload.model_validate_json(one.payload),
            attempt=one.attempt,
            enqueued_at=one.enqueued_at,
            due_at=one.first_due_at,
            deadline=deadline,
            actor=one.actor,
            key=one.key,
            report=report,
        )

    def _span(self) -> AbstractContextManager[None]:
        return tracing.span(
            f"job {self.claimed.kind}",
            self.claimed.traceparent,
            kind=tracing.Kind.CONSUMER,
            job=str(self.claimed.id),
            attempt=self.claimed.attempt,
        )

    async def _handle(self, running: RunningJob[Any], session: AsyncSession) -> None:
        """Await the handler. Raises what it raises, `StoppedError`, and `TimeoutError` after its deadline."""
        seconds = self.service.job.deadline_seconds
        name = f"{self.service.plugin}:job {self.service.job.name}"
        doing = {"plugin": self.service.plugin, "job": self.service.job.name}

        async def handle() -> None:
            with contained(name), acting(doing), self._span():
                await self.service(running, session)

        task = asyncio.create_task(handle(), name=name)
        try:
            either: set[asyncio.Future[Any]] = {task, self._stop}
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await cancel({task})
                if self._stop.done():
                    raise StoppedError(self._stop.result())
                raise TimeoutError(f"{self.service.name} did not finish within {seconds:g} s")
        except asyncio.CancelledError:
            await cancel({task})
            raise
        await task


_REASONS = {
    Stop.CANCELLED: "it was cancelled",
    Stop.INTERRUPTED: "its instance was stopped, or could not reach the database, in the middle of it",
    Stop.LOST: "another instance has taken it over, or the database was set back",
}


def _connections_of(session: AsyncSession) -> list[object]:
    """Has an entry as soon as the session has taken a connection."""
    found: list[object] = []
    event.listen(session.sync_session, "after_begin", lambda *begun: found.append(begun))
    return found


def _is_cancelled_query(error: Exception) -> bool:
    """Whether the server has ended a statement that took too long: so would the next attempt's."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) == _QUERY_CANCELED


def _told(error: str) -> str:
    return cleaned(error.replace("\0", ""), ERROR_CHARACTERS)
