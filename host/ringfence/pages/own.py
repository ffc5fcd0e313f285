"""The host's own pages, declared as a plugin declares its own: overview, plugins, event log, tokens, sessions, jobs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text

from ringfence.access import (
    ACCESS_HOOKS,
    Access,
    AccessError,
    ApiToken,
    LastHolderError,
    Sessions,
    UnknownSessionError,
    UnknownTokenError,
)
from ringfence.eventlog import HISTORY_HOOKS, EventRecord
from ringfence.eventlog.read import read_back
from ringfence.http.paging import DEFAULT_LISTED, cursor, number_of, page
from ringfence.http.problems import Problem
from ringfence.jobs.records import list_jobs, one_job, retry_job
from ringfence.pages.asking import Asking
from ringfence.pages.declared import Action, Again, Attention, Command, Count, Page, Pages, Redirect, View
from ringfence.plugins.lifecycle import LoadedPlugin
from ringfence.plugins.runtime import Runtime
from ringfence.web.event_routes import MANAGE_EVENTS, READ_EVENTS
from ringfence.web.host_routes import MANAGE_TOKENS, READ_PLUGINS, token_key
from ringfence.web.job_routes import MANAGE_JOBS, READ_JOBS, Status
from ringfence.web.session_routes import MANAGE_SESSIONS, cursor_of, session_key

TOKEN_HOOKS = tuple(hook.name for hook in ACCESS_HOOKS)
SYSTEM = "System"
_COUNTS = text("""
    SELECT (SELECT count(*) FROM jobs WHERE status = 'failed') AS failed_jobs,
           (SELECT count(*) FROM failed_events) AS failed_events
""")


class OwnPages:
    """The host's pages, over one instance."""

    def __init__(
        self,
        runtime: Runtime,
        plugins: Sequence[LoadedPlugin],
        access: Access,
        sessions: Sessions,
        asking: Asking,
    ) -> None:
        self._asking = asking
        self._runtime = runtime
        self._plugins = plugins
        self._access = access
        self._sessions = sessions
        self._payload_rules = {
            hook.name: hook.payload_rule
            for one in plugins
            if one.alive
            for hook in one.registry.hooks.values()
        } | {hook.name: hook.payload_rule for hook in (*ACCESS_HOOKS, *HISTORY_HOOKS)}

    def pages(self) -> Pages:
        """All of them. The event log is live by every stored hook that there is."""
        every = tuple(sorted(self._payload_rules))
        listed: list[tuple[str, str, str, Callable[[View], Any], Any, str, Sequence[str]]] = [
            ("/", "Overview", "overview.html", self.overview, None, "Now", every),
            ("/plugins", "Plugins", "plugins.html", self.plugins, READ_PLUGINS, SYSTEM, ()),
            ("/events", "Event log", "events.html", self.events, READ_EVENTS, SYSTEM, every),
            ("/tokens", "Tokens", "tokens.html", self.tokens, MANAGE_TOKENS, SYSTEM, TOKEN_HOOKS),
            ("/sessions", "Sessions", "sessions.html", self.sessions, None, SYSTEM, TOKEN_HOOKS),
            ("/jobs", "Jobs", "jobs.html", self.jobs, READ_JOBS, SYSTEM, every),
        ]
        return Pages(
            package="ringfence.pages",
            pages=[
                Page(
                    path=path,
                    title=title,
                    template=template,
                    show=show,
                    rule=rule,
                    group=group,
                    order=0 if path == "/" else 80 + place,
                    live=live,
                )
                for place, (path, title, template, show, rule, group, live) in enumerate(listed)
            ],
            actions=[
                Action(path="/tokens", title="Make a token", do=self.make_token, rule=MANAGE_TOKENS),
                Action(path="/tokens/{id}/revoke", title="Revoke", do=self.revoke_token, rule=MANAGE_TOKENS),
                Action(path="/sessions/{id}/end", title="End a session", do=self.end_session),
                Action(path="/jobs/{id}/retry", title="Try again", do=self.retry_job, rule=MANAGE_JOBS),
                Action(path="/jobs/{id}/cancel", title="Cancel", do=self.cancel_job, rule=MANAGE_JOBS),
            ],
            attention=self.attention,
            counts=self.counts,
            commands=[
                Command(words="See failed jobs", to="/jobs?status=failed", rule=READ_JOBS),
                Command(words="See who signed in", to="/events?stream=access", rule=READ_EVENTS),
            ],
        )

    async def overview(self, view: View) -> Mapping[str, Any]:
        return {
            "attention": await self._asking.attention(view),
            "counts": await self._asking.counts(view),
        }

    async def attention(self, view: View) -> list[Attention]:
        runtime = self._runtime
        async with runtime.database.sessions() as session:
            counted = (await session.execute(_COUNTS)).one()
        found: list[Attention] = []
        if runtime.database.trouble:
            text = f"The database cannot be written: {runtime.database.trouble}."
            found.append(Attention(text, weight=100))
        if not runtime.tailer.live:
            found.append(Attention("This instance does not follow the event log at the moment.", weight=100))
        if view.may(READ_PLUGINS):
            found += [
                Attention(f"The plugin {one.info.id} is left out.", "/plugins", weight=90)
                for one in self._plugins
                if one.error is not None
            ]
        if view.may(READ_JOBS) and counted.failed_jobs:
            words = _many(counted.failed_jobs, "job has", "jobs have")
            found.append(Attention(f"{words} failed.", "/jobs?status=failed"))
        if view.may(MANAGE_EVENTS) and counted.failed_events:
            words = _many(counted.failed_events, "event was", "events were")
            found.append(Attention(f"{words} set aside after failing: see `ringfence events failed`."))
        return found

    async def counts(self, view: View) -> list[Count]:
        found = [Count("events in the log", self._runtime.tailer.cursor)]
        if view.may(READ_PLUGINS):
            found.append(Count("plugins", sum(one.alive for one in self._plugins), to="/plugins"))
        return found

    async def plugins(self, _: View) -> Mapping[str, Any]:
        return {
            "plugins": [
                {
                    "id": one.info.id,
                    "version": one.info.version,
                    "phase": str(one.phase),
                    "error": one.error,
                    "requires": one.info.requires,
                    "hooks": sorted(one.registry.hooks),
                    "rules": sorted(one.registry.rules),
                }
                for one in self._plugins
            ]
        }

    async def events(self, view: View) -> Mapping[str, Any]:
        before = None if view.after is None else number_of(view.after)
        stream = view.query.get("stream", "").strip()[:500] or None
        async with self._runtime.database.sessions() as session:
            found = await read_back(session, before=before, stream=stream, limit=DEFAULT_LISTED + 1)
        shown = page(found, DEFAULT_LISTED, lambda one: str(one.position))
        return {
            "events": [self._event(one, view) for one in shown.entries],
            "next": shown.next,
            "stream": stream,
        }

    def _event(self, record: EventRecord, view: View) -> dict[str, Any]:
        rule = self._payload_rules.get(record.hook)
        readable = rule is not None and view.principal.holds(rule)
        return {
            "position": record.position,
            "occurred_at": record.occurred_at,
            "hook": record.hook,
            "stream": record.stream,
            "actor": record.actor,
            "reason": record.reason,
            "readable": readable,
            "payload": record.payload if readable else None,
        }

    async def tokens(self, view: View) -> Mapping[str, Any]:
        after = None if view.after is None else token_key(view.after)
        found = await self._access.tokens(after=after, limit=DEFAULT_LISTED + 1)
        shown = page(found, DEFAULT_LISTED, lambda token: cursor(token.created_at.isoformat(), str(token.id)))
        return {
            "tokens": [_token(one, view.now) for one in shown.entries],
            "next": shown.next,
            "given": {"name": "", "rules": ""},
            "errors": {"name": None, "rules": None},
        }

    async def make_token(self, view: View) -> Redirect | Again:
        name, rules = view.form.get("name", "").strip(), view.form.get("rules", "").split("\n")
        try:
            if not 0 < len(name) <= 200:
                raise AccessError("a token has a name of 1 to 200 letters")
            wanted = [rule.strip() for rule in rules if rule.strip()]
            if not wanted:
                raise AccessError("a token holds at least one access rule")
            token, secret = await self._access.create(name, wanted, by=view.principal, peer=view.peer)
        except AccessError as error:
            listed = await self.tokens(view)
            given = {"name": name, "rules": view.form.get("rules", "")}
            field = "name" if "named" in str(error) or "a name" in str(error) else "rules"
            errors = {"name": None, "rules": None, field: str(error)}
            return Again("tokens.html", {**listed, "given": given, "errors": errors})
        return Again("token-made.html", {"name": token.name, "secret": secret}, status=201)

    async def revoke_token(self, view: View) -> Redirect | Again:
        try:
            await self._access.revoke(view.parameters["id"], by=view.principal, peer=view.peer)
        except UnknownTokenError as error:
            raise Problem(404, detail=str(error)) from error
        except LastHolderError as error:
            raise Problem(409, detail=str(error)) from error
        return Redirect("/tokens", "The token is revoked.")

    async def sessions(self, view: View) -> Mapping[str, Any]:
        every = view.may(MANAGE_SESSIONS)
        found = await self._sessions.listed(
            of_token=None if every else view.token,
            after=None if view.after is None else session_key(view.after),
            limit=DEFAULT_LISTED + 1,
        )
        shown = page(found, DEFAULT_LISTED, cursor_of)
        return {"sessions": shown.entries, "next": shown.next, "all": every}

    async def end_session(self, view: View) -> Redirect | Again:
        of_token = None if view.may(MANAGE_SESSIONS) else view.token
        try:
            id = _uuid(view.parameters["id"])
            await self._sessions.end(id, by=view.principal, peer=view.peer, of_token=of_token)
        except UnknownSessionError as error:
            raise Problem(404, detail=str(error)) from error
        return Redirect("/sessions", "The session has ended.")

    async def jobs(self, view: View) -> Mapping[str, Any]:
        status = view.query.get("status") or None
        if status is not None and status not in set(Status):
            raise Problem(422, detail="there is no such state of jobs")
        before = None if view.after is None else number_of(view.after)
        async with self._runtime.database.sessions() as session:
            found = await list_jobs(
                session, before=before, limit=DEFAULT_LISTED + 1, plugin=None, kind=None, status=status
            )
        shown = page(found, DEFAULT_LISTED, lambda one: str(one.number))
        return {
            "jobs": shown.entries,
            "next": shown.next,
            "status": status,
            "statuses": list(Status),
            "may_manage": view.may(MANAGE_JOBS),
        }

    async def retry_job(self, view: View) -> Redirect | Again:
        id = _uuid(view.parameters["id"])
        async with self._runtime.database.sessions.begin() as session:
            waits = await retry_job(session, id)
        if not waits:
            raise Problem(409, detail="only a job that has failed, or was cancelled, is tried again")
        return Redirect("/jobs", "The job is tried again.")

    async def cancel_job(self, view: View) -> Redirect | Again:
        id = _uuid(view.parameters["id"])
        async with self._runtime.database.sessions.begin() as session:
            was = await self._runtime.queue.cancel(session, id, plugin=None)
            job = await one_job(session, id)
        if job is None:
            raise Problem(404, detail=f"there is no job {id}: it never was, or has ended long ago")
        if was is None:
            raise Problem(409, detail=f"the job has {job.status} already: there is nothing to cancel")
        return Redirect("/jobs", "The job is being cancelled.")


def _many(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _uuid(given: str) -> UUID:
    try:
        return UUID(given)
    except ValueError as error:
        raise Problem(404, detail="there is nothing with such an id") from error


def _token(token: ApiToken, now: dt.datetime) -> dict[str, Any]:
    expired = token.expires_at is not None and token.expires_at <= now
    return {
        "id": token.id,
        "name": token.name,
        "state": "revoked" if token.revoked_at else "expired" if expired else "valid",
        "rules": token.rules,
        "created_at": token.created_at,
        "created_by": token.created_by,
        "last_used_at": token.last_used_at,
        "expires_at": token.expires_at,
    }
