"""The jobs of git repositories: one follows one, and one has it followed from time to time."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, StrictBool
from ringfence import Job, PluginContext
from sqlalchemy.ext.asyncio import AsyncSession


class OfSource(BaseModel):
    """Which source it is about."""

    source: UUID


class SyncWanted(BaseModel):
    """Which source is followed, who wants it, and what may be done beyond what is done from time to time."""

    source: UUID
    by: str | None = None
    take_over: StrictBool = False
    allow_older: StrictBool = False


sync_job = Job("sync", SyncWanted, max_attempts=3, deadline_seconds=900.0, at_once=4, at_once_here=2)
"""Follow a source. Never two at once for one source."""
tick_job = Job("tick", OfSource, max_attempts=3, deadline_seconds=60.0)
"""Have a source followed: what a timetable enqueues has no key, so it enqueues what has one."""


def timetable_of(source: UUID) -> str:
    """The name of a source's timetable."""
    return f"source {source}"


async def have_synced(context: PluginContext, session: AsyncSession, wanted: SyncWanted) -> UUID:
    """Have a source followed as soon as it is not being followed already; answers the job's id.

    What is wanted beyond the ordinary is a job of its own; the rest waits once for all who want it.
    """
    is_ordinary = not (wanted.take_over or wanted.allow_older)
    return await context.enqueue(
        sync_job,
        wanted,
        session=session,
        key=str(wanted.source),
        unique=str(wanted.source) if is_ordinary else None,
        actor=wanted.by,
    )
