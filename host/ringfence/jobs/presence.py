"""The mark of an instance that does jobs: a lock that lasts as long as one of its sessions with the database.

When a process is killed, its sessions end at once, and the server lets go of what they held. So others need not wait as
long for one whose mark is gone as for one that may only be cut off: in that case the server keeps the session, since
nothing tells it of the end. A mark that is gone is not enough by itself: a session may be ended from outside, and its
instance live on. It must also have been silent, and have held the mark when it was last heard.
"""

from __future__ import annotations

from uuid import UUID

LOCK = "hashtextextended('ringfence.jobs at work/' || {}, 0)"
"""The key of the lock of an instance, whose id is put in as a text."""


def mark(instance: UUID) -> str:
    """The statement by which a session takes the mark; it answers whether it has it."""
    return f"SELECT pg_try_advisory_lock({LOCK.format(repr(str(instance)))})"
