"""The event log: searched and followed, and one event with what is in it, for who may see that."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import text

from ringfence.bounded import moment
from ringfence.eventlog.search import ListedEvent, Sought, event_at, search_back
from ringfence.http.paging import number_of
from ringfence.http.problems import Problem
from ringfence.pages.declared import Command, Found, Page, Pages, View
from ringfence.pages.own.payloads import Payload, number
from ringfence.plugins.runtime import Runtime
from ringfence.web.event_routes import MANAGE_EVENTS, READ_EVENTS, may_read

LISTED = 50
LONGEST_WORDS = 500
_STREAM = text("SELECT EXISTS (SELECT FROM events WHERE stream = :stream)")
_NEIGHBOURS = text("""
    SELECT (SELECT position FROM events WHERE stream = :stream AND version < :version
             ORDER BY version DESC LIMIT 1) AS before,
           (SELECT position FROM events WHERE stream = :stream AND version > :version
             ORDER BY version LIMIT 1) AS after
""")
_GIVEN_UP = text("""
    SELECT plugin, worker_group, attempts, error FROM failed_events WHERE position = :position ORDER BY id
""")
_WORDS = ("stream", "hook", "actor", "words")
_TIMES = ("since", "until")


class EventPages:
    """The pages."""

    def __init__(self, runtime: Runtime, rules: Mapping[str, str | None]) -> None:
        """`rules`: the access rule with which the payload of each hook's events is shown."""
        self._runtime = runtime
        self._rules = rules

    def declared(self) -> Pages:
        """The log, and each of its events."""
        every = tuple(sorted(self._rules))
        return Pages(
            package="",
            pages=[
                Page(
                    path="/events",
                    title="Event log",
                    template="events.html",
                    show=self.listed,
                    rule=READ_EVENTS,
                    group="System",
                    order=82,
                    live=every,
                ),
                Page(
                    path="/events/{position}",
                    title="Event",
                    template="event.html",
                    show=self.one,
                    rule=READ_EVENTS,
                ),
            ],
            commands=[
                Command(
                    words="See who signed in and who was refused",
                    to="/events?stream=access",
                    rule=READ_EVENTS,
                ),
            ],
            find=self.find,
        )

    async def listed(self, view: View) -> Mapping[str, Any]:
        """The events that fit what is asked for, newest first."""
        given = {name: view.query.get(name, "").strip()[:LONGEST_WORDS] for name in (*_WORDS, *_TIMES)}
        errors: dict[str, str | None] = dict.fromkeys(_TIMES)
        times: dict[str, dt.datetime | None] = {}
        for name in _TIMES:
            try:
                times[name] = _time(given[name])
            except ValueError:
                errors[name] = "This is not a time: write it as 2026-07-30 14:05."
        sought = Sought(
            stream=given["stream"] or None,
            hook=given["hook"] or None,
            actor=given["actor"] or None,
            words=given["words"] or None,
            since=times.get("since"),
            until=times.get("until"),
        )
        before = None if view.after is None else number_of(view.after)
        if any(errors.values()):
            events: Sequence[ListedEvent] = ()
            next = None
        else:
            async with self._runtime.database.sessions() as session:
                events, next = await search_back(session, sought, before=before, limit=LISTED)
        return {
            "events": [self._listed(one, view) for one in events],
            "next": next,
            "full": len(events) == LISTED,
            "newest": events[0].position if events else None,
            "given": given,
            "shown": {name: _shown(times.get(name), given[name]) for name in _TIMES},
            "errors": errors,
            "kept": {name: value for name, value in given.items() if value},
            "hooks": sorted(self._rules),
        }

    def _listed(self, one: ListedEvent, view: View) -> dict[str, Any]:
        return {
            "position": one.position,
            "occurred_at": one.occurred_at,
            "hook": one.hook,
            "stream": one.stream,
            "actor": one.actor,
            "reason": one.reason,
            "excerpt": one.excerpt if may_read(view.principal, one.hook, self._rules) else None,
        }

    async def one(self, view: View) -> Mapping[str, Any]:
        """One event, and its neighbours in its stream."""
        position = _position(view.parameters["position"])
        async with self._runtime.database.sessions() as session:
            found = await event_at(session, position)
            if found is None:
                raise Problem(
                    404,
                    detail="There is no event at this position. It may have been deleted after its retention time.",
                )
            names = {"stream": found.stream, "version": found.version}
            neighbours = (await session.execute(_NEIGHBOURS, names)).one()
            given_up = (
                (await session.execute(_GIVEN_UP, {"position": position})).all()
                if view.may(MANAGE_EVENTS)
                else []
            )
        readable = may_read(view.principal, found.hook, self._rules)
        return {
            "event": found,
            "readable": readable,
            "payload": Payload.of(found.payload) if readable else None,
            "rule": self._rules.get(found.hook),
            "known": found.hook in self._rules,
            "before": neighbours.before,
            "after": neighbours.after,
            "given_up": given_up,
        }

    async def find(self, view: View, words: str) -> Sequence[Found]:
        """An event by its position, events by their hook, and a stream by its name."""
        if not view.may(READ_EVENTS):
            return ()
        found: list[Found] = []
        async with self._runtime.database.sessions() as session:
            position = number(words)
            if position is not None and await event_at(session, position) is not None:
                found.append(Found(f"Event {position}", f"/events/{position}", "event"))
            if (await session.execute(_STREAM, {"stream": words})).scalar_one():
                found.append(Found(words, f"/events?{urlencode({'stream': words})}", "stream"))
        hooks = [hook for hook in sorted(self._rules) if words.lower() in hook]
        return [*found, *(Found(hook, f"/events?hook={hook}", "events") for hook in hooks[:5])]


def _time(written: str) -> dt.datetime | None:
    """A time as a form sends it, in UTC unless it says otherwise. Raises `ValueError`."""
    if not written:
        return None
    found = dt.datetime.fromisoformat(written)
    return moment(found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC))


def _shown(at: dt.datetime | None, written: str) -> str:
    """A time as the field for it has it, which says nothing of zones; what is none as it was written."""
    return written if at is None else f"{at.astimezone(dt.UTC):%Y-%m-%dT%H:%M}"


def _position(written: str) -> int:
    found = number(written)
    if found is None:
        raise Problem(404, detail="The position of an event is a number.")
    return found
