"""The record of access: who signed in from where, who was refused, and which tokens were made, narrowed or revoked.

Its stream is kept for ever. It holds names, rules and addresses, and never a token or its digest.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog
from pydantic import BaseModel, ConfigDict, StrictInt
from sqlalchemy.exc import SQLAlchemyError

from ringfence.hooks import Hook

ACCESS_STREAM = "access"
READ_ACCESS = "host.access.read"
"""The rule with which the payloads of these events are shown."""
MOST_WAITING = 1000
RETRY_SECONDS = 1.0

_log = structlog.get_logger("ringfence.access")


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True)


class TokenCreated(_Fact):
    """An API token was made."""

    token: str
    name: str
    rules: tuple[str, ...]
    expires_at: dt.datetime | None = None
    peer: str | None = None


class TokenNarrowed(_Fact):
    """An API token holds less than before."""

    token: str
    name: str
    rules: tuple[str, ...]
    before: tuple[str, ...]
    peer: str | None = None


class TokenRevoked(_Fact):
    """An API token holds no longer."""

    token: str
    name: str
    peer: str | None = None


class SignedIn(_Fact):
    """A token was used from an address from which it had not been used lately."""

    token: str
    name: str
    peer: str


class SignInRefused(_Fact):
    """Somebody at an address sent tokens that do not hold, `attempts` of them since the last such event."""

    peer: str
    attempts: StrictInt


class SessionBegan(_Fact):
    """A browser signed in."""

    session: str
    token: str
    name: str
    peer: str


class SessionEnded(_Fact):
    """A browser's session was ended, by who was signed in or by somebody else."""

    session: str
    name: str
    peer: str | None = None


def _hook(name: str, payload: type[BaseModel]) -> Hook[Any]:
    return Hook(name, payload, stream=ACCESS_STREAM, keep_forever=True, payload_rule=READ_ACCESS)


token_created = _hook("access-token-created", TokenCreated)
token_narrowed = _hook("access-token-narrowed", TokenNarrowed)
token_revoked = _hook("access-token-revoked", TokenRevoked)
signed_in = _hook("access-signed-in", SignedIn)
sign_in_refused = _hook("access-sign-in-refused", SignInRefused)
session_began = _hook("access-session-began", SessionBegan)
session_ended = _hook("access-session-ended", SessionEnded)
ACCESS_HOOKS = (
    token_created,
    token_narrowed,
    token_revoked,
    signed_in,
    sign_in_refused,
    session_began,
    session_ended,
)


class Emit(Protocol):
    """How the host records a fact: in the transaction of `session`, or in one of its own."""

    def __call__(
        self, hook: Hook[Any], payload: BaseModel, *, session: Any = None, actor: str | None = None
    ) -> Awaitable[object]: ...


class Audit:
    """Records what is noted, soon and in order, so that no request waits for it; `run` is the task that does."""

    def __init__(self, emit: Emit, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._emit = emit
        self._pause = pause
        self._waiting: asyncio.Queue[tuple[Hook[Any], BaseModel, str | None]] = asyncio.Queue(MOST_WAITING)
        self.dropped = 0

    def note(self, hook: Hook[Any], payload: BaseModel, *, actor: str | None = None) -> None:
        """Record a fact soon; if too many wait, since the database is away, it is only counted."""
        try:
            self._waiting.put_nowait((hook, payload, actor))
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Write what is noted until cancelled. A database that fails is waited for."""
        while True:
            hook, payload, actor = await self._waiting.get()
            while not await self._written(hook, payload, actor):
                await self._pause(RETRY_SECONDS)
            if self.dropped:
                _log.error("records of access were dropped: too many were waiting", facts=self.dropped)
                self.dropped = 0

    async def _written(self, hook: Hook[Any], payload: BaseModel, actor: str | None) -> bool:
        try:
            await self._emit(hook, payload, actor=actor)
        except (SQLAlchemyError, OSError) as error:
            _log.warning("cannot record an access; trying again", hook=hook.name, error=type(error).__name__)
            return False
        return True
