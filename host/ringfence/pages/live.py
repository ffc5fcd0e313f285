"""What tells an open page that something has changed: the event log, followed for as long as the page is open.

Each connection reads the log from its own position, behind this instance's tailer, so it goes on at any instance where
it was cut, and nothing waits for it in memory. It hears which parts of its page are to be made anew, and nothing of the
events: the parts come by requests of their own, with the rights of that moment. Server-sent events as of the HTML
standard, 9.2.

Threat: somebody holds many connections, or goes on hearing after their rights have ended. Mechanism: a session has at
most `MOST_PER_SESSION` connections, all sessions of a token `MOST_PER_TOKEN`, and an instance `MOST`; each says
something at most every `PAUSE_SECONDS`, and looks the session and its rights up before it does, and every
`LOOK_SECONDS`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ringfence.eventlog import LogSetBackError
from ringfence.http.problems import Problem
from ringfence.plugins.runtime import Runtime

MOST_PER_SESSION = 20
MOST_PER_TOKEN = 300
"""However many sessions it has begun, it leaves room for others."""
MOST = 1000
PAUSE_SECONDS = 0.75
LOOK_SECONDS = 10.0
MOST_READ = 1000
"""How many events a page may be behind before it is told to make everything anew."""
MOST_PARTS = 50
RETRY_MILLISECONDS = 1000

_SINCE = text("SELECT position, hook FROM events WHERE position > :position ORDER BY position LIMIT :limit")
_LAST = text("SELECT coalesce(max(position), 0) FROM events")

Rights = Callable[[], Awaitable[Mapping[str, frozenset[str]] | None]]
"""The parts of the page that may be seen at this moment, and the hooks of each; None: nobody is signed in any more."""


def message(position: int, parts: Collection[str]) -> str:
    """One message, after which the browser goes on at `position`."""
    return f"id: {position}\nevent: anew\ndata: {' '.join(sorted(parts))}\n\n"


class Feed:
    """The connections of one instance."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._open: Counter[tuple[str, str]] = Counter()
        """By session and token."""

    def check_room(self, session: str, token: str) -> None:
        """Raise `Problem` where there is no room for another connection."""
        of_token = sum(count for (_, one), count in self._open.items() if one == token)
        full = self._open[session, token] >= MOST_PER_SESSION or of_token >= MOST_PER_TOKEN
        if full or self._open.total() >= MOST:
            raise Problem(429, detail="too many pages are open: close some", headers={"Retry-After": "10"})

    @contextmanager
    def place(self, session: str, token: str) -> Iterator[None]:
        """Count a connection for as long as the block runs."""
        self._open[session, token] += 1
        try:
            yield
        finally:
            self._open[session, token] -= 1
            self._open += Counter()

    async def last(self) -> int:
        """The position of the newest event: where a page that is made now begins."""
        async with self._runtime.database.sessions() as session:
            return int((await session.execute(_LAST)).scalar_one())

    async def follow(self, position: int, rights: Rights) -> AsyncIterator[str]:
        """The messages of one connection, until its session ends or this instance drains."""
        yield f"retry: {RETRY_MILLISECONDS}\n\n"
        loop = asyncio.get_running_loop()
        while not self._runtime.drain.began:
            seen = self._runtime.tailer.cursor
            parts = await rights()
            if parts is None:
                yield "event: ended\ndata:\n\n"
                return
            try:
                position, hooks = await self._since(position)
            except (SQLAlchemyError, OSError):
                # The browser connects again, perhaps to an instance that has a database.
                return
            anew = set(parts) if hooks is None else {one for one in parts if parts[one] & hooks}
            if anew or hooks:
                yield message(position, anew) if anew else f"id: {position}\n\n"
            began = loop.time()
            try:
                async with self._runtime.drain.waiting(LOOK_SECONDS):
                    if anew:
                        await asyncio.sleep(PAUSE_SECONDS)
                    await self._runtime.tailer.wait_for(max(seen, position) + 1)
            except (TimeoutError, LogSetBackError):
                if loop.time() - began >= LOOK_SECONDS / 2:
                    yield ": still here\n\n"

    async def _since(self, position: int) -> tuple[int, frozenset[str] | None]:
        """Where the log ends, and the hooks of the events since `position`; None: too many, or it was set back."""
        async with self._runtime.database.sessions() as session:
            rows = (await session.execute(_SINCE, {"position": position, "limit": MOST_READ})).all()
            if 0 < len(rows) < MOST_READ:
                return int(rows[-1].position), frozenset(row.hook for row in rows)
            last = int((await session.execute(_LAST)).scalar_one())
        if rows or last < position:
            return last, None
        return position, frozenset()
