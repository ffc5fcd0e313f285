"""Events that a worker group has given up on, which may be tried again, and what could not be written at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ringfence.eventlog import UnknownFailureError, failed_events, request_replay
from ringfence.http.paging import DEFAULT_LISTED, number_of, page
from ringfence.http.problems import Problem
from ringfence.pages.declared import Action, Again, Command, Page, Pages, Redirect, View
from ringfence.pages.own.payloads import number
from ringfence.plugins.runtime import Runtime
from ringfence.storage.set_aside import set_aside
from ringfence.web.event_routes import MANAGE_EVENTS

_MOST_ASIDE = 100


class FailedEventPages:
    """The page, and trying again."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def declared(self) -> Pages:
        """One page; it is reached from the event log, and from the overview where there is something."""
        return Pages(
            package="",
            pages=[
                Page(
                    path="/events/failed",
                    title="Failed events",
                    template="failed-events.html",
                    show=self.listed,
                    rule=MANAGE_EVENTS,
                    group="System",
                    order=83,
                )
            ],
            actions=[
                Action(path="/events/failed/replay", title="Replay", do=self.replay, rule=MANAGE_EVENTS),
            ],
            commands=[
                Command(
                    words="Replay all failed events",
                    to="/events/failed/replay",
                    rule=MANAGE_EVENTS,
                    form={"all": "yes"},
                    ask="Every failed event is handled once more, after the events that followed it.",
                ),
            ],
        )

    async def listed(self, view: View) -> Mapping[str, Any]:
        """What has failed, oldest first."""
        begin = 0 if view.after is None else number_of(view.after)
        async with self._runtime.database.sessions() as session:
            found = await failed_events(session, after=begin, limit=DEFAULT_LISTED + 1)
            aside = await set_aside(session, limit=_MOST_ASIDE)
        shown = page(found, DEFAULT_LISTED, lambda one: str(one.id))
        return {"failed": shown.entries, "next": shown.next, "aside": aside[::-1]}

    async def replay(self, view: View) -> Redirect | Again:
        """Have one of them tried again, or all."""
        ids = None if view.form.get("all") else [_number(view.form.get("id", ""))]
        try:
            async with self._runtime.database.sessions.begin() as session:
                asked = await request_replay(session, ids)
        except UnknownFailureError as error:
            raise Problem(404, detail=str(error)) from error
        if not asked:
            return Redirect("/events/failed", "There is no failed event to replay.")
        said = "The event is" if len(asked) == 1 else f"{len(asked)} events are"
        return Redirect("/events/failed", f"{said} tried again by the instance that serves its worker group.")


def _number(written: str) -> int:
    found = number(written)
    if not found:
        raise Problem(422, detail="Say which failed event to replay, by its id.")
    return found
