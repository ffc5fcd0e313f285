"""Letting requests in by their token: looked up, limited and recorded, the same for everything that takes one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import structlog

from ringfence.access.audit import Audit, SignedIn, SignInRefused, sign_in_refused, signed_in
from ringfence.access.rules import Principal
from ringfence.access.throttle import Doorkeeper
from ringfence.access.tokens import Access, digest

_log = structlog.get_logger("ringfence.access")


class TooManyFailuresError(Exception):
    """An address has sent too many tokens that do not hold; it may try again after `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = max(1, math.ceil(seconds))
        super().__init__(
            f"too many invalid tokens came from this address: try again in {self.seconds} s, with a valid one"
        )


class SignIn:
    """Says whose token it is that somebody at an address sends, and records what is worth a record."""

    def __init__(
        self, access: Access, audit: Audit | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.access = access
        self._audit = audit
        self._doorkeeper = Doorkeeper()
        self._clock = clock

    async def principal(self, secret: str, peer: str) -> Principal | None:
        """Whose token it is, None if it is nobody's. Raises `TooManyFailuresError`, without having looked."""
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
        return identity.principal

    def _refused(self, peer: str, attempts: int) -> None:
        if not attempts:
            return
        _log.warning("invalid tokens", peer=peer, attempts=attempts)
        if self._audit is not None:
            self._audit.note(sign_in_refused, SignInRefused(peer=peer, attempts=attempts))
