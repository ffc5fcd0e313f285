"""One instance of the fleet at a time does a piece of work: whoever holds the lease on it, which is a row of a table.

Threat: a leader is cut off from the database, and does not know yet that another leads: both do the work. Mechanism:
the leader renews its lease every `RENEW_SECONDS`, and counts it as held for `LEASE_SECONDS` from *before* it asked for
the renewal; when that has passed its work is cancelled, whether the database answers or not. Another takes the lease
over only after it has seen it unrenewed for `LEASE_SECONDS` and `STOP_SECONDS` more, in which that work ends. Each
counts by its own clock, so that clocks that differ do no harm. A leader that stops by itself gives the lease back, and
another takes it at its next look. Not covered: work that takes longer than `STOP_SECONDS` to be cancelled; scripts
that go on while the leader's own process is frozen (they end when it goes on); and a standby that is promoted without
the last renewals.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ringfence.redaction import describe

LEASE_SECONDS = 3.0
RENEW_SECONDS = 1.0
STOP_SECONDS = 2.0
LOOK_SECONDS = 1.0
ANSWER_SECONDS = 2.0
"""How long the database may take over one statement."""

_MAKE = text("INSERT INTO leases (name) VALUES (:name) ON CONFLICT (name) DO NOTHING")
_LOOK = text("SELECT holder, beat FROM leases WHERE name = :name")
_TAKE = text("""
    UPDATE leases SET holder = :me, beat = beat + 1
     WHERE name = :name AND beat = :beat AND holder IS NOT DISTINCT FROM :holder RETURNING beat
""")
_RENEW = text("""
    UPDATE leases SET beat = beat + 1 WHERE name = :name AND holder = :me RETURNING beat
""")
_GIVE_BACK = text("""
    UPDATE leases SET holder = NULL, beat = beat + 1
     WHERE name = :name AND holder = :me AND beat = :beat RETURNING beat
""")
_BY_ITSELF = {"isolation_level": "AUTOCOMMIT"}
"""Each statement is a transaction by itself, without the exchanges of BEGIN and COMMIT."""
_FAILURES = (SQLAlchemyError, OSError, TimeoutError)
_log = structlog.get_logger("ringfence.fleet")
T = TypeVar("T")


class AnswerWithin(Protocol):
    """See `ringfence.PluginContext.answer_within`."""

    async def __call__(self, seconds: float, work: Coroutine[Any, Any, T], *, name: str) -> T:
        """What `work` answers in time; else `TimeoutError`, however stalled the network is."""


@dataclass(frozen=True, slots=True)
class _Lease:
    holder: UUID | None
    beat: int


def _now() -> float:
    """Seconds of a clock that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Leadership:
    """Takes part in the election for `name`, which is one in the whole database."""

    def __init__(
        self, sessions: async_sessionmaker[AsyncSession], name: str, *, answer_within: AnswerWithin
    ) -> None:
        self._sessions = sessions
        self._name = name
        self._answer_within = answer_within
        self._me = uuid.uuid4()
        self._held_until = float("-inf")
        self._beat = 0
        self._seen: tuple[_Lease, float] | None = None
        """The lease as it was last seen, and since when it has been like that."""

    @property
    def leads(self) -> bool:
        """Whether this instance leads at this very moment: what must not be done twice is begun only then."""
        return _now() < self._held_until

    async def serve(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` whenever this instance leads, until cancelled. It is cancelled when the instance leads no more."""
        while True:
            try:
                if await self._takes_over():
                    await self._lead(work)
            except _FAILURES as error:
                _log.warning("cannot stand for leader", of=self._name, error=describe(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def _takes_over(self) -> bool:
        asked_at = _now()
        lease = await self._in_time(self._look())
        if not self._is_free(lease, _now()):
            return False
        values = {"me": self._me, "beat": lease.beat, "holder": lease.holder}
        return self._hold(await self._in_time(self._write(_TAKE, **values)), asked_at)

    def _is_free(self, lease: _Lease, now: float) -> bool:
        """Whether nobody can believe to lead. What this instance has led itself, it does no more when it asks."""
        if self._seen is None or self._seen[0] != lease:
            self._seen = lease, now
        if lease.holder in {None, self._me}:
            return True
        return now - self._seen[1] > LEASE_SECONDS + STOP_SECONDS

    async def _lead(self, work: Callable[[], Awaitable[None]]) -> None:
        _log.info("this instance leads", of=self._name)
        working = asyncio.create_task(_awaited(work), name=f"leader of {self._name}")
        renewing = asyncio.create_task(self._renew_until_lost(), name=f"lease of {self._name}")
        try:
            while self.leads and not working.done() and not renewing.done():
                await asyncio.wait(
                    [working, renewing],
                    timeout=max(0.0, self._held_until - _now()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
        finally:
            renewing.cancel()
            working.cancel()
            await asyncio.wait([working, renewing])
            _log.info("this instance leads no more", of=self._name)
            await self._give_back()
        if not working.cancelled():
            await working

    async def _renew_until_lost(self) -> None:
        """Renew the lease again and again; returns when somebody else has it."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            asked_at = _now()
            try:
                renewed = await self._in_time(self._write(_RENEW, me=self._me))
            except _FAILURES as error:
                _log.warning("cannot renew the lease", of=self._name, error=describe(error))
            else:
                if not self._hold(renewed, asked_at):
                    self._held_until = float("-inf")
                    _log.error("another instance leads: this one was away for too long", of=self._name)
                    return

    def _hold(self, beat: int | None, asked_at: float) -> bool:
        if beat is None:
            return False
        self._beat, self._held_until = beat, asked_at + LEASE_SECONDS
        return True

    async def _give_back(self) -> None:
        """Spare the next leader the wait, now that the work has ended.

        By its beat: were this delayed on its way, it must not end a lease that is taken later.
        """
        held, self._held_until = self.leads, float("-inf")
        if held:
            try:
                await self._in_time(self._write(_GIVE_BACK, me=self._me, beat=self._beat))
            except _FAILURES as error:
                _log.warning("cannot give the lease back", of=self._name, error=describe(error))

    async def _look(self) -> _Lease:
        async with self._sessions.begin() as session:
            await session.connection(execution_options=_BY_ITSELF)
            row = (await session.execute(_LOOK, {"name": self._name})).one_or_none()
            if row is None:
                await session.execute(_MAKE, {"name": self._name})
                return _Lease(None, 0)
            return _Lease(row.holder, row.beat)

    async def _write(self, statement: Any, **values: object) -> int | None:
        """The lease's beat once it is written; None if it is not as the statement wants it."""
        async with self._sessions.begin() as session:
            await session.connection(execution_options=_BY_ITSELF)
            beat: int | None = (
                await session.execute(statement, {"name": self._name, **values})
            ).scalar_one_or_none()
            return beat

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        return await self._answer_within(ANSWER_SECONDS, work, name=f"the lease of {self._name}")


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()
