"""API tokens: who may do what, kept in the database and known by heart while that can be trusted.

Threat: a stolen database must not yield a usable token, and a token must never be worth more than it says.
Mechanism: a token is 256 random bits, shown once and kept as its SHA-256 digest (it is no password: there is
nothing to guess, so a slow hash would buy nothing). No rule implies another, and whoever makes a token can only
hand on what they hold themselves. Not covered: a token read from its owner's own files.

A token that was looked up is known for `KNOWN_SECONDS`, or until its end is heard of: by the instance that ended it at
once, by the others with the event log. What this instance may have missed is not relied on: while it does not follow
the log, every token is looked up.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ringfence.access.audit import (
    Emit,
    TokenCreated,
    TokenNarrowed,
    TokenRevoked,
    token_created,
    token_narrowed,
    token_revoked,
)
from ringfence.access.rules import AccessError, AccessRule, Grant, Principal

TOKEN_PREFIX = "rft_"  # noqa: S105  (lets scanners recognise a leaked token; not a secret)
KNOWN_SECONDS = 10.0
MOST_KNOWN = 10_000
MANAGE_TOKENS = "host.token.manage"
"""The rule that gives rules."""
_COLUMNS = "id, name, rules, created_at, created_by, last_used_at, revoked_at, expires_at"
_LIVE = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
_LOOK_UP = text(f"""
    SELECT id, name, rules, extract(epoch FROM expires_at - now()) AS seconds_left,
           coalesce(last_used_at, '-infinity') < now() - interval '1 minute' AS is_stale
      FROM api_tokens WHERE digest = :digest AND {_LIVE}
""")  # noqa: S608
# At most one write a minute per token, and none that waits for another request's.
_USED = text("""
    UPDATE api_tokens SET last_used_at = now()
     WHERE id = (SELECT id FROM api_tokens WHERE id = :id
                    AND coalesce(last_used_at, '-infinity') < now() - interval '1 minute' FOR UPDATE SKIP LOCKED)
""")
_INSERT = text(f"""
    INSERT INTO api_tokens (id, name, digest, rules, created_by, expires_at)
    VALUES (:id, :name, :digest, :rules, :by, now() + make_interval(secs => CAST(:seconds AS double precision)))
    RETURNING {_COLUMNS}
""")  # noqa: S608
_FIND = text(f"""
    SELECT {_COLUMNS} FROM api_tokens WHERE {_LIVE} AND (name = :key OR id::text = :key)
     ORDER BY id FOR UPDATE
""")  # noqa: S608
_LIST = text(f"""
    SELECT {_COLUMNS} FROM api_tokens
     WHERE (CAST(:at AS timestamptz) IS NULL OR (created_at, id) > (CAST(:at AS timestamptz), CAST(:id AS uuid)))
       AND (CAST(:words AS text) IS NULL OR strpos(lower(name), lower(:words)) > 0)
       AND (NOT :live OR {_LIVE})
     ORDER BY created_at, id LIMIT :limit
""")  # noqa: S608
_ONE = text(f"SELECT {_COLUMNS} FROM api_tokens WHERE id = :id")  # noqa: S608
_ENDED = text(f"""
    SELECT {_COLUMNS} FROM api_tokens WHERE digest = :digest AND NOT ({_LIVE})
""")  # noqa: S608
# So that two who each take one away do not both see the other's.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('ringfence.tokens', 0))")
_OTHER_HOLDERS = text("""
    SELECT EXISTS (SELECT FROM api_tokens
                    WHERE revoked_at IS NULL AND expires_at IS NULL AND :rule = ANY(rules) AND id <> :id)
""")


class TokenNameTakenError(AccessError):
    """A live token has that name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"a token named {name!r} already exists: revoke it first, or choose another name")


class UnknownTokenError(AccessError):
    """No live token has that id or name."""

    def __init__(self, key: str) -> None:
        super().__init__(f"no live API token has the id or name {key!r}")


class LastHolderError(AccessError):
    """What is asked for would leave nobody who may make tokens."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is the last token without an expiry that holds {MANAGE_TOKENS}, and without it nobody could make "
            "another: make a second one first"
        )


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token as it is kept: everything but the secret."""

    id: uuid.UUID
    name: str
    rules: tuple[str, ...]
    created_at: dt.datetime
    created_by: str | None
    last_used_at: dt.datetime | None
    revoked_at: dt.datetime | None
    expires_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose a token is: its own id, and the principal that acts with it."""

    token: str
    principal: Principal


@dataclass(frozen=True, slots=True)
class _Known:
    identity: Identity
    until: float
    """On this process's steady clock."""


def new_secret() -> str:
    """A new token's text: 256 random bits behind a prefix that secret scanners can find."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def digest(secret: str) -> bytes:
    """What is kept of a token: its SHA-256 digest."""
    return hashlib.sha256(secret.encode()).digest()


class Access:
    """The rules of this instance's plugins, and the tokens of the installation."""

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        rules: Iterable[AccessRule],
        *,
        emit: Emit | None = None,
        may_know: Callable[[], bool] = lambda: False,
    ) -> None:
        """`may_know` says whether the event log is followed at the moment; `emit` records what becomes of tokens."""
        self._sessions = sessions
        self._emit = emit
        self._may_know = may_know
        self._known: dict[bytes, _Known] = {}
        self._forgotten = 0
        self.rules = {rule.name: rule for rule in rules}

    async def authenticate(self, secret: str) -> Principal | None:
        """Whose token this is, or None when it is nobody's (unknown, expired or revoked)."""
        identity = await self.identify(secret)
        return None if identity is None else identity.principal

    async def identify(self, secret: str) -> Identity | None:
        """As `authenticate`, together with which token it is."""
        try:
            key = digest(secret)
        except UnicodeEncodeError:
            return None
        known = self._known.get(key)
        if known is not None and time.monotonic() < known.until and self._may_know():
            return known.identity
        asked_at, forgotten = time.monotonic(), self._forgotten
        async with self._sessions.begin() as session:
            row = (await session.execute(_LOOK_UP, {"digest": key})).one_or_none()
            if row is None:
                self._known.pop(key, None)
                return None
            if row.is_stale:
                await session.execute(_USED, {"id": row.id})
        identity = Identity(str(row.id), Principal.of(row.name, map(Grant.parse, row.rules)))
        lasts = KNOWN_SECONDS if row.seconds_left is None else min(KNOWN_SECONDS, float(row.seconds_left))
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        # What was read before a change of which was heard meanwhile may be outdated.
        if forgotten == self._forgotten:
            self._known[key] = _Known(identity, asked_at + lasts)
        return identity

    def forget(self) -> None:
        """Know no token by heart: one has been changed, or the database was set back."""
        self._known.clear()
        self._forgotten += 1

    async def create(
        self,
        name: str,
        rules: Iterable[str],
        *,
        by: Principal,
        lasts_seconds: float | None = None,
        peer: str | None = None,
    ) -> tuple[ApiToken, str]:
        """Make a token that holds `rules`; answers it and its secret, which is kept nowhere.

        Each is the name of a rule, or one that is narrowed (see `Grant`). It ends after `lasts_seconds`, if given.
        Raises `AccessError` for a rule that no plugin declares, that cannot be narrowed, or that `by` does not hold,
        and `TokenNameTakenError`.
        """
        grants = self._checked(rules, by)
        secret = new_secret()
        try:
            async with self._sessions.begin() as session:
                row = await session.execute(
                    _INSERT,
                    {
                        "id": uuid.uuid4(),
                        "name": name,
                        "digest": digest(secret),
                        "rules": sorted(map(str, grants)),
                        "by": by.name,
                        "seconds": lasts_seconds,
                    },
                )
                token = _token(row.one())
                fact = TokenCreated(
                    token=str(token.id), name=name, rules=token.rules, expires_at=token.expires_at, peer=peer
                )
                await self._record(session, token_created, fact, by)
        except IntegrityError as error:
            raise TokenNameTakenError(name) from error
        return token, secret

    async def tokens(
        self,
        *,
        after: tuple[dt.datetime, uuid.UUID] | None = None,
        limit: int,
        words: str | None = None,
        live: bool = False,
    ) -> list[ApiToken]:
        """The tokens, oldest first; only those after the one with that time and that id.

        With `words`, only those whose name has them in it; with `live`, none that has been revoked or has expired.
        """
        at, id = after or (None, None)
        values = {"at": at, "id": id, "words": words, "live": live, "limit": limit}
        async with self._sessions() as session:
            return [_token(row) for row in await session.execute(_LIST, values)]

    async def token(self, id: uuid.UUID) -> ApiToken | None:
        """The token with that id, also one that has ended."""
        async with self._sessions() as session:
            row = (await session.execute(_ONE, {"id": id})).one_or_none()
        return None if row is None else _token(row)

    async def ended(self, secret: str) -> ApiToken | None:
        """The token whose secret this was, if it has been revoked or has expired; only its owner can ask that."""
        try:
            key = digest(secret)
        except UnicodeEncodeError:
            return None
        async with self._sessions() as session:
            row = (await session.execute(_ENDED, {"digest": key})).one_or_none()
        return None if row is None else _token(row)

    async def narrow(
        self, id_or_name: str, rules: Iterable[str], *, by: Principal, peer: str | None = None
    ) -> ApiToken:
        """Have a token hold only `rules` from now on, each of which it must hold already, or more than that.

        Raises `AccessError` if one is more than it holds, `UnknownTokenError` and `LastHolderError`.
        """
        async with self._sessions.begin() as session:
            token = await self._found(session, id_or_name)
            owner = Principal.of(token.name, map(Grant.parse, token.rules))
            wanted = {Grant.parse(rule) for rule in rules}
            if not wanted:
                raise AccessError(
                    "a token must hold at least one rule: to take all of them away, revoke the token"
                )
            if beyond := sorted(str(grant) for grant in wanted if not owner.may_grant(grant)):
                raise AccessError(
                    f"a token can only be narrowed; {token.name} does not hold: {', '.join(beyond)}"
                )
            self._check_known(wanted)
            if MANAGE_TOKENS not in {str(grant) for grant in wanted}:
                await self._check_not_last(session, token)
            changed = await session.execute(
                text(f"UPDATE api_tokens SET rules = :rules WHERE id = :id RETURNING {_COLUMNS}"),  # noqa: S608
                {"rules": sorted(map(str, wanted)), "id": token.id},
            )
            narrowed = _token(changed.one())
            fact = TokenNarrowed(
                token=str(token.id), name=token.name, rules=narrowed.rules, before=token.rules, peer=peer
            )
            await self._record(session, token_narrowed, fact, by)
        self.forget()
        return narrowed

    async def revoke(self, id_or_name: str, *, by: Principal | None = None, peer: str | None = None) -> None:
        """End a token now. Raises `UnknownTokenError` and `LastHolderError`."""
        async with self._sessions.begin() as session:
            token = await self._found(session, id_or_name)
            await self._check_not_last(session, token)
            await session.execute(
                text("UPDATE api_tokens SET revoked_at = now() WHERE id = :id"), {"id": token.id}
            )
            fact = TokenRevoked(token=str(token.id), name=token.name, peer=peer)
            await self._record(session, token_revoked, fact, by)
        self.forget()

    async def ensure_admin(self, secret: str) -> None:
        """Give the administrator's token every rule that this instance's plugins declare, making it if it is not there.

        One that has been revoked stays revoked. Instances with data directories of their own have one each.
        """
        key = digest(secret)
        async with self._sessions.begin() as session:
            await session.execute(
                text("""
                    INSERT INTO api_tokens (id, name, digest, rules, created_by)
                    VALUES (:id, :name, :digest, :rules, 'host')
                    ON CONFLICT (digest) DO UPDATE SET rules = ARRAY(
                        SELECT DISTINCT unnest(api_tokens.rules || excluded.rules) ORDER BY 1)
                """),
                {
                    "id": uuid.uuid4(),
                    "name": f"admin-{key.hex()[:8]}",
                    "digest": key,
                    "rules": sorted(self.rules),
                },
            )

    def _checked(self, rules: Iterable[str], by: Principal) -> set[Grant]:
        wanted = {Grant.parse(rule) for rule in rules}
        self._check_known(wanted)
        if beyond := sorted(str(grant) for grant in wanted if not by.may_grant(grant)):
            raise AccessError(
                f"a token can only be given rules that its maker holds; {by.name} lacks: {', '.join(beyond)}"
            )
        return wanted

    def _check_known(self, wanted: Iterable[Grant]) -> None:
        if unknown := sorted(grant.rule for grant in wanted if grant.rule not in self.rules):
            raise AccessError(
                f"no such access rule: {', '.join(unknown)}; known are: {', '.join(sorted(self.rules))}"
            )
        if fixed := sorted(
            grant.rule for grant in wanted if grant.labels and not self.rules[grant.rule].narrowable
        ):
            narrowable = ", ".join(sorted(rule.name for rule in self.rules.values() if rule.narrowable))
            raise AccessError(
                f"{', '.join(fixed)} cannot be narrowed to labels; those that can are: {narrowable or 'none'}"
            )

    async def _found(self, session: AsyncSession, id_or_name: str) -> ApiToken:
        await session.execute(_LOCK)
        row = (await session.execute(_FIND, {"key": id_or_name})).first()
        if row is None:
            raise UnknownTokenError(id_or_name)
        return _token(row)

    async def _check_not_last(self, session: AsyncSession, token: ApiToken) -> None:
        if MANAGE_TOKENS not in token.rules:
            return
        others = await session.execute(_OTHER_HOLDERS, {"rule": MANAGE_TOKENS, "id": token.id})
        if not others.scalar_one():
            raise LastHolderError(token.name)

    async def _record(self, session: AsyncSession, hook: Any, fact: Any, by: Principal | None) -> None:
        if self._emit is not None:
            await self._emit(hook, fact, session=session, actor=None if by is None else by.name)


def _token(row: Row[Any]) -> ApiToken:
    return ApiToken(**{**row._mapping, "rules": tuple(row.rules)})
