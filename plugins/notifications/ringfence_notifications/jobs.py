"""The jobs of this plugin: one makes messages, one sends one, one looks after the rest; and how they are enqueued."""

from __future__ import annotations

import datetime as dt

from pydantic import BaseModel
from ringfence import Backoff, Job, Nothing, PluginContext
from sqlalchemy.ext.asyncio import AsyncSession


class OfChannel(BaseModel):
    """Which channel it is about."""

    channel: str


compose_job = Job("compose", OfChannel, max_attempts=20, deadline_seconds=60.0)
"""Make messages of what a channel is due to be told. Never two at once for one channel."""
deliver_job = Job(
    "deliver", OfChannel, max_attempts=20, deadline_seconds=120.0, at_once_here=8, retry=Backoff(1.0, 60.0)
)
"""Send the oldest message of a channel that is due. A message has attempts of its own, apart from those of the job."""
upkeep_job = Job("upkeep", Nothing, max_attempts=1, deadline_seconds=120.0)
"""See that nothing is left lying, and let go of what is old."""


async def have_composed(context: PluginContext, session: AsyncSession, channel: str, at: dt.datetime) -> None:
    """Have the messages of a channel made at a time, or sooner."""
    await _of_channel(context, session, compose_job, channel, at)


async def have_delivered(
    context: PluginContext, session: AsyncSession, channel: str, at: dt.datetime | None = None
) -> None:
    """Have the messages of a channel sent that are due, at a time or now."""
    await _of_channel(context, session, deliver_job, channel, at)


async def _of_channel(
    context: PluginContext, session: AsyncSession, job: Job[OfChannel], channel: str, at: dt.datetime | None
) -> None:
    payload, key = OfChannel(channel=channel), f"{job.name} {channel}"
    await context.enqueue(job, payload, session=session, at=at, key=key, unique=channel)
