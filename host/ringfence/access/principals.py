"""Whom plugins act for when nobody is there who asks: the holder of an API token, with the rules that it holds now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ringfence.access.rules import Grant, Principal

_LIVE = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
_NAMED = text(f"SELECT id, name, rules FROM api_tokens WHERE name = :name AND {_LIVE}")  # noqa: S608
_ONE = text(f"SELECT id, name, rules FROM api_tokens WHERE id = :id AND {_LIVE}")  # noqa: S608


@dataclass(frozen=True, slots=True)
class TokenHolder:
    """A live API token: its id, and the principal that acts with it."""

    token: str
    principal: Principal


class Principals:
    """Looks up live tokens. Each call is one exchange with the database: nothing is known by heart here."""

    def __init__(self, sessions: Callable[[], async_sessionmaker[AsyncSession]]) -> None:
        self._sessions = sessions

    async def named(self, name: str) -> TokenHolder | None:
        """The holder of the live token of this name; None where there is none.

        A name is free again when its token is revoked, so that what is kept for later is kept by the token's id.
        """
        return await self._found({"name": name}, _NAMED)

    async def principal(self, token: str) -> Principal | None:
        """Who holds the token with this id, with the rules that it holds now; None once that token has ended."""
        try:
            holder = await self._found({"id": UUID(token)}, _ONE)
        except ValueError:
            return None
        return None if holder is None else holder.principal

    async def _found(self, values: dict[str, object], query: TextClause) -> TokenHolder | None:
        async with self._sessions()() as session:
            row = (await session.execute(query, values)).one_or_none()
        if row is None:
            return None
        return TokenHolder(str(row.id), Principal.of(row.name, map(Grant.parse, row.rules)))
