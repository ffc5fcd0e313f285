"""Sessions of browsers: begun with an API token, and worth exactly what that token is worth at each moment.

Threat: a session outlives its token or its owner's interest, is worth more than its token, is planted by somebody else,
or is taken from a stolen database. Mechanism: a session holds no right; each request looks it up together with its
token, of which nothing is known by heart here, so that a token that is revoked, narrowed or expires is so for its
sessions with the next request, on every instance. Its secret is 256 random bits, made when somebody signs in and never
taken from outside, and kept as a SHA-256 digest. A session ends when it is not used for long, after a time in any case,
when it is ended, and when its token has `MOST_PER_TOKEN` newer ones. Not covered: whoever reads the browser's files.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from ringfence.access.audit import Emit, SessionBegan, SessionEnded, session_began, session_ended
from ringfence.access.rules import AccessError, Grant, Principal
from ringfence.access.tokens import digest

MOST_PER_TOKEN = 50
LINK_SECONDS = 120.0
MOST_BROWSER = 300
KEPT_DAYS = 30.0
"""For how long it is remembered that there was a session."""

_LIVE = """
    s.ended_at IS NULL AND s.used_at > now() - make_interval(secs => :idle)
    AND s.created_at > now() - make_interval(secs => :longest)
    AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > now())
"""
_FIND = text(f"""
    SELECT s.id, t.id AS token, t.name, t.rules, s.used_at < now() - make_interval(secs => :stale) AS is_stale
      FROM browser_sessions s JOIN api_tokens t ON t.id = s.token WHERE s.digest = :digest AND {_LIVE}
""")  # noqa: S608
# At most one write a minute for each session, and none that waits for another request's.
_USED = text("""
    UPDATE browser_sessions SET used_at = now()
     WHERE id = (SELECT id FROM browser_sessions WHERE id = :id AND ended_at IS NULL FOR UPDATE SKIP LOCKED)
""")
_BEGIN = text("""
    INSERT INTO browser_sessions (id, digest, token, peer, browser) VALUES (:id, :digest, :token, :peer, :browser)
""")
_CROWDED_OUT = text("""
    UPDATE browser_sessions SET ended_at = now() WHERE id IN (
        SELECT id FROM browser_sessions WHERE token = :token AND ended_at IS NULL
         ORDER BY created_at DESC, id OFFSET :most)
""")
_END = text("""
    UPDATE browser_sessions s SET ended_at = now() FROM api_tokens t
     WHERE t.id = s.token AND s.id = :id AND s.ended_at IS NULL
       AND (CAST(:token AS uuid) IS NULL OR s.token = :token)
 RETURNING s.id, t.name
""")
_LIST = text(f"""
    SELECT s.id, t.name, s.token, s.peer, s.browser, s.created_at, s.used_at FROM browser_sessions s
      JOIN api_tokens t ON t.id = s.token
     WHERE {_LIVE} AND (CAST(:token AS uuid) IS NULL OR s.token = :token)
       AND (CAST(:at AS timestamptz) IS NULL OR (s.created_at, s.id) > (CAST(:at AS timestamptz), CAST(:after AS uuid)))
     ORDER BY s.created_at, s.id LIMIT :limit
""")  # noqa: S608
_ADD_LINK = text("""
    INSERT INTO sign_in_links (digest, token, expires_at)
    VALUES (:digest, :token, now() + make_interval(secs => :seconds))
""")
_USE_LINK = text("DELETE FROM sign_in_links WHERE digest = :digest AND expires_at > now() RETURNING token")
_TOKEN_LIVES = text("""
    SELECT name FROM api_tokens
     WHERE id = :id AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
""")


class UnknownSessionError(AccessError):
    """No live session has that id."""

    def __init__(self, id: object) -> None:
        super().__init__(f"there is no session {id}: it never was, or has ended")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session lasts: unused, and in any case; in seconds."""

    idle_seconds: float
    longest_seconds: float

    @property
    def stale_seconds(self) -> float:
        """After how long it is noted again that a session is used."""
        return min(60.0, self.idle_seconds / 4)


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is signed in: who that is, by which token, and what its forms have to send along."""

    id: uuid.UUID
    token: str
    principal: Principal
    csrf: str


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A live session as it is listed."""

    id: uuid.UUID
    name: str
    token: uuid.UUID
    peer: str
    browser: str | None
    created_at: dt.datetime
    used_at: dt.datetime


def csrf_of(secret: str) -> str:
    """What requests of a session that change something carry beside its cookie, which others' pages cannot know."""
    made = hmac.new(secret.encode(), b"ringfence: a form of this session", hashlib.sha256).digest()
    return base64.urlsafe_b64encode(made).decode().rstrip("=")


def csrf_fits(session: Session, given: str) -> bool:
    """Whether that is it; takes as long for every wrong one."""
    return hmac.compare_digest(session.csrf.encode(), given.encode(errors="replace"))


class Sessions:
    """The sessions of the installation. Each call is one exchange with the database, or two."""

    def __init__(
        self, sessions: async_sessionmaker[AsyncSession], limits: Limits, *, emit: Emit | None = None
    ) -> None:
        self._sessions = sessions
        self._limits = limits
        self._emit = emit

    async def find(self, secret: str, *, use: bool = True) -> Session | None:
        """The live session with this secret. `use`: whether that keeps it from ending for want of use."""
        try:
            key = digest(secret)
        except UnicodeEncodeError:
            return None
        async with self._sessions.begin() as database:
            values = {"digest": key, "stale": self._limits.stale_seconds, **self._bounds()}
            row = (await database.execute(_FIND, values)).one_or_none()
            if row is None:
                return None
            if use and row.is_stale:
                await database.execute(_USED, {"id": row.id})
        principal = Principal.of(row.name, map(Grant.parse, row.rules))
        return Session(row.id, str(row.token), principal, csrf_of(secret))

    async def begin(self, token: str, *, name: str, peer: str, browser: str | None) -> str:
        """Begin a session of a live token's holder, called `name`; answers its secret, which is kept nowhere."""
        async with self._sessions.begin() as database:
            return await self._begin(database, uuid.UUID(token), name, peer, browser)

    async def end(
        self, id: uuid.UUID, *, by: Principal, peer: str | None = None, of_token: str | None = None
    ) -> None:
        """End a session now; with `of_token`, only one that was begun with it. Raises `UnknownSessionError`."""
        async with self._sessions.begin() as database:
            values = {"id": id, "token": None if of_token is None else uuid.UUID(of_token)}
            row = (await database.execute(_END, values)).one_or_none()
            if row is None:
                raise UnknownSessionError(id)
            await self._record(
                database, session_ended, SessionEnded(session=str(id), name=row.name, peer=peer), by.name
            )

    async def listed(
        self,
        *,
        of_token: str | None = None,
        after: tuple[dt.datetime, uuid.UUID] | None = None,
        limit: int,
    ) -> Sequence[ListedSession]:
        """The live sessions, oldest first; only those of one token, if it is named."""
        at, id = after or (None, None)
        values = {
            "token": None if of_token is None else uuid.UUID(of_token),
            "at": at,
            "after": id,
            "limit": limit,
            **self._bounds(),
        }
        async with self._sessions() as database:
            return [_listed(row) for row in await database.execute(_LIST, values)]

    async def make_link(self, token: str) -> str:
        """The secret of a link that signs the holder of `token` in once, within `LINK_SECONDS`."""
        secret = secrets.token_urlsafe(32)
        async with self._sessions.begin() as database:
            await database.execute(text("DELETE FROM sign_in_links WHERE expires_at <= now()"))
            values = {"digest": digest(secret), "token": uuid.UUID(token), "seconds": LINK_SECONDS}
            await database.execute(_ADD_LINK, values)
        return secret

    async def follow_link(self, link: str, *, peer: str, browser: str | None) -> str | None:
        """Begin a session by a link, which is used up by that; its secret, or None if the link does not hold."""
        try:
            key = digest(link)
        except UnicodeEncodeError:
            return None
        async with self._sessions.begin() as database:
            token = (await database.execute(_USE_LINK, {"digest": key})).scalar_one_or_none()
            if token is None:
                return None
            name = (await database.execute(_TOKEN_LIVES, {"id": token})).scalar_one_or_none()
            if name is None:
                return None
            return await self._begin(database, token, name, peer, browser)

    async def _begin(
        self, database: AsyncSession, token: uuid.UUID, name: str, peer: str, browser: str | None
    ) -> str:
        secret, id = secrets.token_urlsafe(32), uuid.uuid4()
        shown = None if browser is None else browser[:MOST_BROWSER].replace("\0", "")
        values = {"id": id, "digest": digest(secret), "token": token, "peer": peer, "browser": shown}
        await database.execute(_BEGIN, values)
        await database.execute(_CROWDED_OUT, {"token": token, "most": MOST_PER_TOKEN})
        fact = SessionBegan(session=str(id), token=str(token), name=name, peer=peer)
        await self._record(database, session_began, fact, name)
        return secret

    async def _record(self, database: AsyncSession, hook: Any, fact: Any, actor: str) -> None:
        if self._emit is not None:
            await self._emit(hook, fact, session=database, actor=actor)

    def _bounds(self) -> dict[str, float]:
        return {"idle": self._limits.idle_seconds, "longest": self._limits.longest_seconds}


async def forget_old(sessions: async_sessionmaker[AsyncSession], longest_seconds: float) -> int:
    """Delete the sessions that ended long ago; how many that were."""
    async with sessions.begin() as database:
        gone = await database.execute(
            text("""
                DELETE FROM browser_sessions
                 WHERE created_at < now() - make_interval(secs => :longest) - make_interval(days => :days)
                 RETURNING id
            """),
            {"longest": longest_seconds, "days": int(KEPT_DAYS)},
        )
        return len(gone.all())


def _listed(row: Row[Any]) -> ListedSession:
    return ListedSession(**row._mapping)
