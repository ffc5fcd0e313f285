"""A plugin's context within a transaction of somebody else's: what the plugin would commit there is a savepoint."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker

from ringfence.fleet.replica import Replica
from ringfence.hooks import Event, Hook, P
from ringfence.plugins.context import PluginContext
from ringfence.storage.configs import ConfigSchema, M

T = TypeVar("T")


class JoinedContext(PluginContext):
    """As `context`, on one connection, whose transaction its owner commits or rolls back.

    Services that are built over it do what they do elsewhere. It reads what was written there and is not committed, so
    its replicas are no copies, and are never kept; and nothing that is built over it may outlive the transaction.
    Events that are emitted without a `reason` have the one that is given here.
    """

    def __init__(
        self, context: PluginContext, connection: AsyncConnection, *, reason: str | None = None
    ) -> None:
        super().__init__(context._registry, context._runtime, context.logger)
        self._reason = reason
        self._sessions = async_sessionmaker(
            bind=connection,
            class_=AsyncSession,
            expire_on_commit=False,
            join_transaction_mode="create_savepoint",
        )

    @property
    def sessions(self) -> async_sessionmaker[AsyncSession]:
        """Sessions on the one connection."""
        return self._sessions

    def replica(
        self, load: Callable[[], Awaitable[T]], *, newer: Callable[[T, T], T] | None = None
    ) -> Replica[T]:
        """Reads whenever it is asked."""
        return Replica(load, lambda: False, newer=newer)

    async def emit_hook(
        self,
        hook: Hook[P],
        payload: P,
        *,
        session: AsyncSession | None = None,
        standalone: bool = False,
        stream: str | None = None,
        expected_version: int | None = None,
        actor: str | None = None,
        reason: str | None = None,
    ) -> Event[P]:
        """As elsewhere; what would stand alone is a part of the transaction."""

        async def emitted(within: AsyncSession | None) -> Event[P]:
            return await super(JoinedContext, self).emit_hook(
                hook,
                payload,
                session=within,
                stream=stream,
                expected_version=expected_version,
                actor=actor,
                reason=reason or self._reason,
            )

        if not standalone:
            return await emitted(session)
        async with self.sessions.begin() as own:
            return await emitted(own)

    async def emit_hooks(
        self,
        hook: Hook[P],
        facts: Sequence[tuple[str, P]],
        *,
        session: AsyncSession | None = None,
        standalone: bool = False,
        actor: str | None = None,
        reason: str | None = None,
    ) -> None:
        """As elsewhere; what would stand alone is a part of the transaction."""
        reason = reason or self._reason
        if not standalone:
            await super().emit_hooks(hook, facts, session=session, actor=actor, reason=reason)
            return
        async with self.sessions.begin() as own:
            await super().emit_hooks(hook, facts, session=own, actor=actor, reason=reason)

    async def emit_with_config(
        self,
        hook: Hook[P],
        payload: P,
        schema: ConfigSchema[M],
        value: M,
        *,
        replaces: dt.datetime | None,
        updated_at: dt.datetime,
        expected_version: int,
        actor: str | None = None,
        reason: str | None = None,
    ) -> Event[P] | None:
        """None: read, and decide again. It would be a transaction of its own."""
        del hook, payload, schema, value, replaces, updated_at, expected_version, actor, reason
        return None
