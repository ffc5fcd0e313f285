"""The jobs of this plugin, by their kinds: one makes messages, one sends one, one looks after the rest."""

from __future__ import annotations

from pydantic import BaseModel
from ringfence import Backoff, Job


class OfChannel(BaseModel):
    """Which channel it is about."""

    channel: str


class Nothing(BaseModel):
    """Nothing to be said."""


compose_job = Job("compose", OfChannel, max_attempts=20, deadline_seconds=60.0)
"""Make messages of what a channel is due to be told. Never two at once for one channel."""
deliver_job = Job(
    "deliver", OfChannel, max_attempts=20, deadline_seconds=120.0, at_once_here=8, retry=Backoff(1.0, 60.0)
)
"""Send the oldest message of a channel that is due. A message has attempts of its own, apart from those of the job."""
upkeep_job = Job("upkeep", Nothing, max_attempts=1, deadline_seconds=120.0)
"""See that nothing is left lying, and let go of what is old."""
