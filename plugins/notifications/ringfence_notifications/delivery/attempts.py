"""How often a message is tried, and when again. Pure."""

from __future__ import annotations

import datetime as dt

MAX_ATTEMPTS = 8
LEASE = dt.timedelta(seconds=100)
"""For so long one who has begun to send a message has it alone: longer than that takes."""
_PAUSES = (10, 30, 120, 600, 1800, 3600, 7200)


def next_attempt(ended: int, now: dt.datetime) -> dt.datetime | None:
    """When a message of which so many attempts have failed is tried again; None for not at all."""
    if ended >= MAX_ATTEMPTS:
        return None
    return now + dt.timedelta(seconds=_PAUSES[min(ended, len(_PAUSES)) - 1])
