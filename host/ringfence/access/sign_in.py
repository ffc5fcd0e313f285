"""Letting requests in by their token: looked up, limited and recorded, the same for everything that takes one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import structlog

from ringfence.access.audit import Audit, SignedIn, SignInRefused, sign_in_refused, signed_in
from ringfence.access.rules import Principal
from ringfence.access.sessions import Session, Sessions
from ringfence.access.throttle import Doorkeeper
from ringfence.access.tokens import Access, Identity, digest

_log = structlog.get_logger("ringfence.access")


class TooManyFailuresError(Exception):
    """An address has sent too many tokens that do not hold; it may try again after `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = max(1, math.ceil(seconds))
        super().__init__(
            f"too many invalid tokens came from this address: try again in {self.seconds} s, with a valid one"
        )


class TooManySessionsError(Exception):
    """One token has begun too many sessions; it may begin another after `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = max(1, math.ceil(seconds))
        super().__init__(f"too many sessions were begun with this token: try again in {self.seconds} s")


class SignIn:
    """Says whose token it is that somebody at an address sends, and records what is worth a record."""

    def __init__(
        self,
        access: Access,
        audit: Audit | None = None,
        *,
        sessions: Sessions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`sessions` are those of browsers; without them, nobody comes by a cookie."""
        self.access = access
        self.sessions = sessions
        self._audit = audit
        self._doorkeeper = Doorkeeper()
        self._beginnings = Doorkeeper()
        self._clock = clock

    async def principal(self, secret: str, peer: str) -> Principal | None:
        """Whose token it is, None if it is nobody's. Raises `TooManyFailuresError`, without having looked."""
        identity = await self.identity(secret, peer)
        return None if identity is None else identity.principal

    async def identity(self, secret: str, peer: str) -> Identity | None:
        """As `principal`, together with which token it is."""
        now, key = self._clock(), digest(secret)
        wait = self._doorkeeper.wait_seconds(peer, now)
        if wait and not self._doorkeeper.knows(key, peer, now):
            raise TooManyFailuresError(wait)
        identity = await self.access.identify(secret)
        if identity is None:
            self._refused(peer, self._doorkeeper.failed(peer, now))
            return None
        if self._doorkeeper.held(key, peer, now) and self._audit is not None:
            name = identity.principal.name
            self._audit.note(signed_in, SignedIn(token=identity.token, name=name, peer=peer), actor=name)
        return identity

    async def begin_session(self, secret: str, peer: str, browser: str | None) -> str | None:
        """Begin a browser's session with a token; the session's secret, None if the token is nobody's.

        Raises `TooManyFailuresError`, and `TooManySessionsError` where one token has begun too many.
        """
        identity = await self.identity(secret, peer)
        if identity is None or self.sessions is None:
            return None
        if wait := self._beginnings.wait_seconds(identity.token, self._clock()):
            raise TooManySessionsError(wait)
        self._beginnings.failed(identity.token, self._clock())
        return await self.sessions.begin(
            identity.token, name=identity.principal.name, peer=peer, browser=browser
        )

    async def follow_link(self, link: str, peer: str, browser: str | None) -> str | None:
        """Begin a browser's session by a link that holds once; the session's secret, None if the link does not hold.

        Raises `TooManyFailuresError`.
        """
        now = self._clock()
        if wait := self._doorkeeper.wait_seconds(peer, now):
            raise TooManyFailuresError(wait)
        began = (
            None
            if self.sessions is None
            else await self.sessions.follow_link(link, peer=peer, browser=browser)
        )
        if began is None:
            self._refused(peer, self._doorkeeper.failed(peer, now))
        return began

    async def session(self, secret: str, *, use: bool = True) -> Session | None:
        """The live session of a browser, by what its cookie holds."""
        return None if self.sessions is None else await self.sessions.find(secret, use=use)

    def _refused(self, peer: str, attempts: int) -> None:
        if not attempts:
            return
        _log.warning("invalid tokens", peer=peer, attempts=attempts)
        if self._audit is not None:
            self._audit.note(sign_in_refused, SignInRefused(peer=peer, attempts=attempts))
