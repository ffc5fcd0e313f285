"""Sessions: which browsers are signed in, and ending that; everyone sees those of their own token."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from ringfence.access import ACCESS_HOOKS, Sessions, UnknownSessionError
from ringfence.http.paging import DEFAULT_LISTED, page
from ringfence.http.problems import Problem
from ringfence.pages.declared import Action, Again, Page, Pages, Redirect, View
from ringfence.web.session_routes import MANAGE_SESSIONS, cursor_of, session_key

HOOKS = tuple(hook.name for hook in ACCESS_HOOKS)


class SessionPages:
    """The page, and ending one."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def declared(self) -> Pages:
        """One page."""
        return Pages(
            package="",
            pages=[
                Page(
                    path="/sessions",
                    title="Sessions",
                    template="sessions.html",
                    show=self.listed,
                    group="System",
                    order=87,
                    live=HOOKS,
                )
            ],
            actions=[Action(path="/sessions/{id}/end", title="End a session", do=self.end)],
        )

    async def listed(self, view: View) -> Mapping[str, Any]:
        """Those that may be seen, oldest first."""
        every = view.may(MANAGE_SESSIONS)
        found = await self._sessions.listed(
            of_token=None if every else view.token,
            after=None if view.after is None else session_key(view.after),
            limit=DEFAULT_LISTED + 1,
        )
        shown = page(found, DEFAULT_LISTED, cursor_of)
        return {"sessions": shown.entries, "next": shown.next, "every": every}

    async def end(self, view: View) -> Redirect | Again:
        """End one of those."""
        of_token = None if view.may(MANAGE_SESSIONS) else view.token
        try:
            id = UUID(view.parameters["id"])
            await self._sessions.end(id, by=view.principal, peer=view.peer, of_token=of_token)
        except UnknownSessionError as error:
            raise Problem(404, detail=str(error)) from error
        except ValueError as error:
            raise Problem(404, detail="There is no session with such an id.") from error
        return Redirect("/sessions", "The session has ended.")
