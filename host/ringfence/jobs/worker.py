"""The worker of one instance: takes jobs, has them done, and says that it is there.

Threat: an instance dies, hangs, or is cut off, with jobs in the middle. Mechanism: it says every `BEAT_SECONDS` that it
is there, and the others take its jobs over when it has been silent for `GONE_SECONDS` of the database's clock, however
long a job has been running; or for `UNMARKED_SECONDS` if its mark is gone, as that of a killed process is at once (see
`presence`). One that loses its mark and lives on says so, or ends its handlers in that time. One that could not say
that it is there for `FENCE_SECONDS`, counted from before it asked, ends its handlers by itself, so that no job runs
twice at the same time. Not covered: a handler that ignores its cancellation; a process that is frozen for long, whose
handlers go on until it has looked around (what they write in their session counts for nothing, see `attempt`); and a
server that gives a session up for lost within seconds, while the network keeps that, and all else, from its instance.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ringfence.backoff import Pauses
from ringfence.counting import Counts, Distributions
from ringfence.jobs.attempt import Attempt, Ended, Failed, Outcome, Stop, Succeeded
from ringfence.jobs.board import JobBoard
from ringfence.jobs.store import Store
from ringfence.jobs.timetables import Timetables
from ringfence.redaction import describe
from ringfence.storage.answering import answer_within

BEAT_SECONDS = 2.0
FENCE_SECONDS = 14.0
GONE_SECONDS = 20.0
UNMARKED_SECONDS = 5.0
UNMARKED_FENCE_SECONDS = 4.0
FENCE_LOOK_SECONDS = 1.0
POLL_SECONDS = 1.0
"""How often jobs are looked for when nothing wakes the worker."""
ANSWER_SECONDS = 5.0
"""How long the database may take over one statement."""
LEAVE_SECONDS = 4.0
"""How long a stop waits for the jobs that it interrupts to be given back."""

T = TypeVar("T")
_FAILURES = (SQLAlchemyError, OSError, TimeoutError)
_log = structlog.get_logger("ringfence.jobs")


def _now() -> float:
    """Seconds of a clock that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Worker:
    """Does the jobs that fall to this instance. `sessions` are for its own statements, `job_sessions` for handlers."""

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        job_sessions: async_sessionmaker[AsyncSession],
        board: JobBoard,
        *,
        instance: UUID,
    ) -> None:
        self._job_sessions = job_sessions
        self._board = board
        self._store = Store(sessions, instance=instance)
        self._timetables = Timetables(sessions, board)
        self._attempts: dict[tuple[UUID, int], Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._waking = asyncio.Event()
        self._looking = asyncio.Event()
        self._turn = asyncio.Lock()
        """Claims and looks at what runs here take turns: what was just claimed is not taken for lost."""
        self._alive_until = self._asked_at = float("-inf")
        self._is_marked = False
        self._takes_new = True
        self.ended = Counts()
        """Attempts that were made here, by the job's kind and how they ended."""
        self.durations = Distributions()
        """How long they took, in seconds, by the job's kind."""
        self._has_left = False

    @property
    def running(self) -> int:
        """How many jobs run here."""
        return len(self._attempts)

    def wake(self) -> None:
        """There may be something to do."""
        self._waking.set()

    def marked(self, is_marked: bool) -> None:
        """This instance has its mark, or has it no more (see `presence`)."""
        if self._is_marked and not is_marked:
            # Until it is known that this has been said, the others may take it for dead.
            self._alive_until = min(self._alive_until, self._asked_at + UNMARKED_FENCE_SECONDS)
        self._is_marked = is_marked
        self._looking.set()

    def look(self) -> None:
        """One of the jobs that run here may be cancelled."""
        if self._attempts:
            self._looking.set()

    async def settle(self, plugins: Collection[str]) -> None:
        """Take up the timetables that these plugins declare, and forget those that they do not any more."""
        await self._timetables.settle(plugins)

    async def run(self) -> None:
        """Do jobs until cancelled; `stop` is for the end."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._beat_until_cancelled(), name="jobs: beat")
            both.create_task(self._fence_until_cancelled(), name="jobs: fence")
            both.create_task(self._claim_until_cancelled(), name="jobs: claim")
            both.create_task(self._follow_timetables(), name="jobs: timetables")

    def take_no_more(self) -> None:
        """Begin with no more jobs; those that run go on."""
        self._takes_new = False

    async def at_rest(self) -> None:
        """Return when no job runs here any more."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def stop(self) -> None:
        """Interrupt what still runs, and give it back for another instance to begin with anew. Never raises."""
        self.take_no_more()
        async with self._turn:  # what is being claimed at this moment is among what runs then
            self._has_left = True
            for attempt in list(self._attempts.values()):
                attempt.stop(Stop.INTERRUPTED)
        if self._tasks:
            _, left = await asyncio.wait(set(self._tasks), timeout=LEAVE_SECONDS)
            for task in left:
                task.cancel()
        try:
            await self._in_time(self._store.leave(), "leaving")
        except _FAILURES as error:
            _log.warning(
                "could not tell the fleet that this instance does no more jobs; the others will notice",
                error=describe(error),
            )

    async def _beat_until_cancelled(self) -> None:
        while True:
            self._looking.clear()
            await self._beat()
            await _until(self._looking, BEAT_SECONDS)

    async def _fence_until_cancelled(self) -> None:
        """End what runs here when the others may take it over."""
        while True:
            left = self._alive_until - _now()
            if left <= 0:
                for attempt in list(self._attempts.values()):
                    attempt.stop(Stop.INTERRUPTED)
            await asyncio.sleep(max(0.1, min(left, FENCE_LOOK_SECONDS)))

    async def _beat(self) -> None:
        async with self._turn:
            if self._has_left:
                return
            asked_at = _now()
            try:
                kinds = sorted(self._board.services) if self._takes_new else []
                marked = self._is_marked
                there = await self._in_time(self._store.beat(kinds, marked=marked), "beat")
                self._look_at_what_runs(there)
                not_here = [one for one in there if one not in self._attempts]
                most = {kind: one.job.max_losses for kind, one in self._board.services.items()}
                lost = await self._in_time(
                    self._store.take_back(
                        not_here, gone_seconds=GONE_SECONDS, unmarked_seconds=UNMARKED_SECONDS, most=most
                    ),
                    "taking back",
                )
            except _FAILURES as error:
                _log.warning("cannot tell that this instance does jobs", error=describe(error))
                return
            if not self._alive_until > asked_at:
                self.wake()
            # What was said is not true any more if the mark was lost meanwhile: it will be said at once.
            is_true = self._is_marked or not marked
            self._asked_at = asked_at
            self._alive_until = asked_at + (FENCE_SECONDS if is_true else UNMARKED_FENCE_SECONDS)
            for one in lost:
                _log.error("a job lost its instance", job=str(one.id), kind=one.kind, now=one.status)
            if lost:
                self.wake()

    def _look_at_what_runs(self, there: dict[tuple[UUID, int], bool]) -> None:
        for key, attempt in list(self._attempts.items()):
            if key not in there:
                attempt.stop(Stop.LOST)
            elif there[key]:
                attempt.stop(Stop.CANCELLED)

    async def _claim_until_cancelled(self) -> None:
        pauses = Pauses(0.05, 2.0)
        while True:
            self._waking.clear()
            seconds = POLL_SECONDS
            try:
                if await self._claim():
                    continue
                if (room := self._room()) and self._can_claim():
                    due = await self._in_time(self._store.next_due(list(room)), "looking ahead")
                    seconds = POLL_SECONDS if due is None else max(0.0, min(due, POLL_SECONDS))
                pauses.succeeded()
            except _FAILURES as error:
                _log.warning("cannot look for jobs; trying again", error=describe(error))
                seconds = pauses.after_failure()
            await _until(self._waking, seconds)

    async def _follow_timetables(self) -> None:
        pauses = Pauses(0.05, 2.0)
        while True:
            seconds = POLL_SECONDS
            if self._can_claim():
                try:
                    due = await self._in_time(self._timetables.start_due(), "timetables")
                    seconds = POLL_SECONDS if due is None else max(0.0, min(due, POLL_SECONDS))
                    pauses.succeeded()
                except _FAILURES as error:
                    _log.warning("cannot follow timetables; trying again", error=describe(error))
                    seconds = pauses.after_failure()
            await asyncio.sleep(seconds)

    def _can_claim(self) -> bool:
        return self._takes_new and _now() < self._alive_until

    def _room(self) -> dict[str, tuple[int, int | None]]:
        """How many of each kind could begin here now, and how many may run in the fleet."""
        here = Counter(attempt.claimed.kind for attempt in self._attempts.values())
        return {
            kind: (service.job.at_once_here - here[kind], service.job.at_once)
            for kind, service in self._board.services.items()
            if service.job.at_once_here > here[kind]
        }

    def _is_full(self, kind: str) -> bool:
        return kind not in self._room()

    async def _claim(self) -> bool:
        """Begin with what is due; whether there was anything."""
        async with self._turn:
            room = self._room()
            if not room or not self._can_claim():
                return False
            claimed = await self._in_time(self._store.claim(room), "claiming")
            services = self._board.services
            for one in claimed:
                self._begin(Attempt(one, services[one.kind]))
        return bool(claimed)

    def _begin(self, attempt: Attempt) -> None:
        one = attempt.claimed
        self._attempts[one.id, one.attempt] = attempt
        task = asyncio.create_task(self._see_through(attempt), name=f"job {one.kind}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a job could not be seen to its end", task=task.get_name(), exc_info=error)

    async def _see_through(self, attempt: Attempt) -> None:
        one = attempt.claimed

        async def report(done: int | None, of: int | None, text: str | None) -> None:
            try:
                noted = self._store.note_progress(one, {"done": done, "of": of, "text": text})
                await self._in_time(noted, "noting progress")
            except _FAILURES as error:
                _log.warning("cannot note how far a job is", id=str(one.id), error=describe(error))

        try:
            began = time.monotonic()
            outcome = await attempt.make(self._job_sessions, self._store, report)
            self.durations.observe(time.monotonic() - began, one.kind)
            self.ended.add(one.kind, _word(outcome))
            await self._settle(attempt, outcome)
        finally:
            was_full = self._is_full(one.kind)
            del self._attempts[one.id, one.attempt]
            if was_full or one.key is not None or attempt.service.job.at_once is not None:
                # Somebody may have waited for this one to end.
                self.wake()

    async def _settle(self, attempt: Attempt, outcome: Outcome) -> None:
        """Note how an attempt has ended, however long the database is away."""
        if isinstance(outcome, Succeeded) or (isinstance(outcome, Ended) and outcome.why is Stop.LOST):
            return
        pauses = Pauses(0.1, 2.0)
        while True:
            try:
                await self._in_time(self._note(attempt, outcome), "noting a job's end")
                return
            except _FAILURES as error:
                _log.warning("cannot note how a job ended; trying again", error=describe(error))
            await asyncio.sleep(pauses.after_failure())

    async def _note(self, attempt: Attempt, outcome: Outcome) -> None:
        one, job = attempt.claimed, attempt.service.job
        match outcome:
            case Failed(error, final, cause):
                pause = job.retry.after(one.failures + 1)
                now = await self._store.fail(one, error, most=job.max_attempts, pause=pause, final=final)
                _log.error(
                    "a job failed",
                    plugin=attempt.service.plugin,
                    job=job.name,
                    id=str(one.id),
                    attempt=one.attempt,
                    now=now,
                    error=error,
                    exc_info=cause,
                )
            case Ended(Stop.CANCELLED):
                await self._store.cancelled(one)
            case Ended(_, error, seconds):
                await self._store.give_back(one, error, pause=seconds)
            case Succeeded():
                return

    async def _in_time(self, work: Coroutine[Any, Any, T], what: str) -> T:
        return await answer_within(ANSWER_SECONDS, work, name=f"jobs: {what}")


def _word(outcome: Outcome) -> str:
    """How an attempt has ended, in one word."""
    return outcome.why.name.lower() if isinstance(outcome, Ended) else type(outcome).__name__.lower()


async def _until(waking: asyncio.Event, seconds: float) -> None:
    """Return when woken, or after `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await waking.wait()
