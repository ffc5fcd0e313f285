"""Who may do what: access rules that plugins declare, and API tokens that hold them.

Threat: a stolen database must not yield a usable token, and a token must never be worth more than it says.
Mechanism: a token is 256 random bits, shown once and kept as its SHA-256 digest (it is no password: there is
nothing to guess, so a slow hash would buy nothing). No rule implies another, and whoever makes a token can only
hand on rules that they hold themselves. Not covered: a token read from its owner's own files.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

TOKEN_PREFIX = "rft_"  # noqa: S105  (lets scanners recognise a leaked token; not a secret)
_WORD = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_COLUMNS = "id, name, rules, created_at, created_by, last_used_at, revoked_at"


class AccessError(ValueError):
    """A rule or a token cannot be made as asked; the message says why."""


class TokenNameTakenError(AccessError):
    """A live token has that name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a token named {name!r} already; revoke it first, or choose another name")


@dataclass(frozen=True, slots=True)
class AccessRule:
    """The right to do one thing: `<plugin>.<resource>.<action>`."""

    plugin: str
    resource: str
    action: str
    description: str

    def __post_init__(self) -> None:
        for word in (self.plugin, self.resource, self.action):
            if not _WORD.fullmatch(word):
                raise AccessError(f"access rule part {word!r} must be lower-case words joined by hyphens")

    @property
    def name(self) -> str:
        """How the rule is written."""
        return f"{self.plugin}.{self.resource}.{self.action}"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever a request comes from, and the names of the rules that they hold."""

    name: str
    rules: frozenset[str]

    def holds(self, rule: str) -> bool:
        """Whether this principal has been given `rule` itself; nothing implies it."""
        return rule in self.rules


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


def new_secret() -> str:
    """A new token's text: 256 random bits behind a prefix that secret scanners can find."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def digest(secret: str) -> bytes:
    """What is kept of a token: its SHA-256 digest."""
    return hashlib.sha256(secret.encode()).digest()


class Access:
    """The rules of this instance's plugins, and the tokens of the installation."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession], rules: Iterable[AccessRule]) -> None:
        self._sessions = sessions
        self.rules = {rule.name: rule for rule in rules}

    async def authenticate(self, secret: str) -> Principal | None:
        """Whose token this is, or None when it is nobody's (unknown or revoked)."""
        async with self._sessions.begin() as session:
            row = (
                await session.execute(
                    text(
                        "SELECT id, name, rules FROM api_tokens WHERE digest = :digest AND revoked_at IS NULL"
                    ),
                    {"digest": digest(secret)},
                )
            ).one_or_none()
            if row is None:
                return None
            # At most one write a minute per token, and none that waits for another request's.
            await session.execute(
                text("""
                    UPDATE api_tokens SET last_used_at = now()
                     WHERE id = (SELECT id FROM api_tokens
                                  WHERE id = :id
                                    AND coalesce(last_used_at, '-infinity') < now() - interval '1 minute'
                                    FOR UPDATE SKIP LOCKED)
                """),
                {"id": row.id},
            )
        return Principal(name=row.name, rules=frozenset(row.rules))

    async def create(self, name: str, rules: Iterable[str], *, by: Principal) -> tuple[ApiToken, str]:
        """Make a token that holds `rules`; answers it and its secret, which is kept nowhere.

        Raises `AccessError` for a rule that no plugin declares or that `by` does not hold, and `TokenNameTakenError`.
        """
        wanted = sorted(set(rules))
        if unknown := [rule for rule in wanted if rule not in self.rules]:
            raise AccessError(
                f"no such access rule: {', '.join(unknown)}; known are: {', '.join(sorted(self.rules))}"
            )
        if beyond := [rule for rule in wanted if not by.holds(rule)]:
            raise AccessError(
                f"a token can only be given rules that its maker holds; {by.name} lacks: {', '.join(beyond)}"
            )
        secret = new_secret()
        try:
            token = await self._insert(name, wanted, secret, created_by=by.name)
        except IntegrityError as error:
            raise TokenNameTakenError(name) from error
        return token, secret

    async def tokens(self) -> list[ApiToken]:
        """Every token, revoked ones included, oldest first."""
        async with self._sessions() as session:
            rows = await session.execute(text(f"SELECT {_COLUMNS} FROM api_tokens ORDER BY created_at, id"))  # noqa: S608
            return [_token(row) for row in rows]

    async def revoke(self, id_or_name: str) -> bool:
        """End a token now. False when no live token has that id or name."""
        async with self._sessions.begin() as session:
            found = await session.execute(
                text("""
                    UPDATE api_tokens SET revoked_at = now()
                     WHERE revoked_at IS NULL AND (name = :key OR id::text = :key) RETURNING id
                """),
                {"key": id_or_name},
            )
            return found.first() is not None

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

    async def _insert(self, name: str, rules: list[str], secret: str, *, created_by: str) -> ApiToken:
        async with self._sessions.begin() as session:
            row = await session.execute(
                text(f"""
                    INSERT INTO api_tokens (id, name, digest, rules, created_by)
                    VALUES (:id, :name, :digest, :rules, :by) RETURNING {_COLUMNS}
                """),  # noqa: S608
                {
                    "id": uuid.uuid4(),
                    "name": name,
                    "digest": digest(secret),
                    "rules": rules,
                    "by": created_by,
                },
            )
            return _token(row.one())


def _token(row: Row[Any]) -> ApiToken:
    return ApiToken(**{**row._mapping, "rules": tuple(row.rules)})
