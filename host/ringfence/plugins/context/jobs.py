"""Jobs: what a plugin has done later, once, or again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from ringfence.hooks import P
from ringfence.jobs import Job, JobError, JobHandler, JobService, Order, Timetable, kind_of
from ringfence.plugins.context.view import PluginView
from ringfence.scripts.schedule.cron import UTC

if TYPE_CHECKING:
    import datetime as dt

    from sqlalchemy.ext.asyncio import AsyncSession


class Jobs(PluginView):
    """The part of a plugin's context that is about jobs."""

    def on_job(self, job: Job[P], handler: JobHandler[P]) -> None:
        """Have `handler` do the jobs of a kind that this plugin declared. Only from `after_plugins_ready` on.

        `handler(job, session)` writes in the transaction that ends the job, so its writes happen exactly once; what it
        does elsewhere, at least once. If it raises, they are undone, and the job is tried again later, up to the kind's
        `max_attempts`; then it has failed, and is kept with its error (`ringfence jobs`). Raises `JobError`.
        """
        self._runtime.check_ready(self.id, f"on_job({job.name})")
        self._check_has(job)
        self._runtime.board.serve(JobService(self.id, job, handler))

    async def enqueue(
        self,
        job: Job[P],
        payload: P,
        *,
        session: AsyncSession | None = None,
        at: dt.datetime | None = None,
        after_seconds: float = 0.0,
        key: str | None = None,
        unique: str | None = None,
        actor: str | None = None,
    ) -> UUID:
        """Have a job done, by whichever instance comes to it: in `session`'s transaction, or at once without one.

        Only from `after_plugins_ready` on. Raises `JobError`.

        Args:
            job: a kind that this plugin declared.
            payload: what the handler is handed.
            session: the job is there if this commits, and never was if it does not.
            at: not before this moment.
            after_seconds: not before so many seconds have passed.
            key: this plugin's jobs of one key, whatever their kinds, are done one after another: in the order in which
                they are due, and of those that are due at once, in which they were enqueued. One that has failed and is
                to be tried again keeps its place; one for later is in nobody's way before.
            unique: while a job of this kind and name waits, it does for both, as soon as either would have been due;
                its payload stays as it is. It begins after `session`'s transaction, so that its handler sees what is
                written there. The answer is its id then.
            actor: on whose behalf.
        """
        self._runtime.check_ready(self.id, f"enqueue({job.name})")
        self._check_has(job)
        order = Order(self.id, job, payload, at, after_seconds, key, unique, actor=actor)
        if session is not None:
            return await self._runtime.queue.enqueue(session, order)
        async with self.sessions.begin() as own:
            return await self._runtime.queue.enqueue(own, order)

    async def cancel_job(self, id: UUID, *, session: AsyncSession | None = None) -> bool:
        """Cancel a job of this plugin's. False if it has ended already, or was never there.

        One that waits is never begun. The handler of one that runs is cancelled, once this is committed, unless it ends
        first.
        """
        self._runtime.check_ready(self.id, "cancel_job()")
        if session is not None:
            return await self._runtime.queue.cancel(session, id, plugin=self.id) is not None
        async with self.sessions.begin() as own:
            return await self._runtime.queue.cancel(own, id, plugin=self.id) is not None

    async def cancel_waiting(self, job: Job[Any], *, unique: str, session: AsyncSession) -> bool:
        """Cancel the job of this plugin that waits by the name `unique`. False if none does; one that runs goes on."""
        self._runtime.check_ready(self.id, f"cancel_waiting({job.name})")
        return await self._runtime.queue.cancel_waiting(session, kind_of(self.id, job.name), unique)

    def every(self, schedule: str, job: Job[P], payload: P, *, name: str, zone: str = UTC) -> None:
        """Have a job enqueued again and again, once for the fleet. Only in `after_plugins_ready`.

        `schedule` is an interval ("30s", "5m", "1h", "1d") or an expression of cron ("0 3 * * *") in `zone`. Of times
        that nobody was there for, one is made up for; and while one of its jobs waits, no second is enqueued. It goes
        on from one start to the next, unless the schedule is another one then; a `name` that is not given any more is
        forgotten. Raises `JobError`.
        """
        self._runtime.check_ready(self.id, f"every({name})")
        if self._runtime.following:
            raise JobError(
                f"{self.id} used every({name}) too late: do it in after_plugins_ready, or set_timetable()"
            )
        self._check_has(job)
        self._runtime.board.repeat(Timetable(self.id, name, job, payload, schedule, zone))

    async def set_timetable(
        self, schedule: str, job: Job[P], payload: P, *, name: str, zone: str = UTC, session: AsyncSession
    ) -> None:
        """As `every`, at any time and in `session`'s transaction; it stays until it is set anew, or removed."""
        self._runtime.check_ready(self.id, f"set_timetable({name})")
        self._check_has(job)
        Timetable(self.id, name, job, payload, schedule, zone)
        order = Order(self.id, job, payload)
        await self._runtime.queue.set_timetable(session, order, schedule, zone, name=name)

    async def remove_timetable(self, name: str, *, session: AsyncSession) -> bool:
        """Take away what `set_timetable` has set, in `session`'s transaction. False if there was nothing."""
        self._runtime.check_ready(self.id, f"remove_timetable({name})")
        return await self._runtime.queue.remove_timetable(session, self.id, name)

    def _check_has(self, job: Job[P]) -> None:
        if self._registry.jobs.get(job.name) is not job:
            raise JobError(
                f"{self.id} uses the job {job.name} without having declared it: pass it to registry.job()"
            )
