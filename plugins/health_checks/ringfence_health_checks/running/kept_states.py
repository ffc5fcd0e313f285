"""What checks keep from one run on the core to the next: in the database, since any instance may be the next to run it.

On one instance, runs of a check take turns. Two instances may run one at once (one by its schedule, and one because
somebody asked for it): who comes second finds that the state is not the one that it began with, and does not store its
own. Its result says so.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from uuid import UUID
from weakref import WeakValueDictionary

from ringfence import PluginContext
from ringfence.redaction import describe
from ringfence.scripts import StateUnavailableError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

_LOAD = text("SELECT version, state FROM health_checks_kept_states WHERE check_id = :id")
# Only of a check that still keeps one here: what it kept has gone with that.
_SAVE = text("""
    INSERT INTO health_checks_kept_states AS kept (check_id, version, state)
    SELECT id, 1, :state FROM health_checks_checks
     WHERE id = :id AND definition @> '{"keepState": true, "runsOn": {"core": true}}' AND :version = 0
        OR id = :id AND EXISTS (SELECT FROM health_checks_kept_states WHERE check_id = :id AND version = :version)
    ON CONFLICT (check_id) DO UPDATE
       SET version = kept.version + 1, state = excluded.state, stored_at = now()
     WHERE kept.version = :version
    RETURNING version
""")


class KeptStates:
    """The states of the checks that run on the core."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._turns: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    def of(self, check_id: UUID) -> KeptState:
        """That of a check, for one run."""
        return KeptState(self._context, check_id, self._turns.setdefault(check_id, asyncio.Lock()))


class KeptState:
    """Implements `StateStore` for one run of one check."""

    def __init__(self, context: PluginContext, check_id: UUID, lock: asyncio.Lock) -> None:
        self._context = context
        self._check_id = check_id
        self._lock = lock
        self._version = 0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """See `StateStore`."""
        async with self._lock:
            yield

    async def load(self) -> bytes:
        """See `StateStore`."""
        try:
            async with self._context.sessions() as session:
                row = (await session.execute(_LOAD, {"id": self._check_id})).one_or_none()
        except (SQLAlchemyError, OSError) as error:
            raise StateUnavailableError(f"the database: {describe(error)}") from error
        if row is None:
            return b""
        self._version = row.version
        return bytes(row.state)

    async def save(self, state: bytes) -> None:
        """See `StateStore`."""
        values = {"id": self._check_id, "version": self._version, "state": state}
        try:
            async with self._context.sessions.begin() as session:
                stored = (await session.execute(_SAVE, values)).one_or_none()
        except (SQLAlchemyError, OSError) as error:
            raise StateUnavailableError(f"the database: {describe(error)}") from error
        if stored is None:
            raise StateUnavailableError("another run of the check, or a change of it, came in between")
