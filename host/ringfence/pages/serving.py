"""The pages over HTTP: who may see one, forms and what they do, live messages, and data for scripts of pages."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import urlencode

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from ringfence.access import Session
from ringfence.access.sessions import csrf_fits
from ringfence.http import browsers
from ringfence.http.guard import not_our_name, session_of
from ringfence.http.problems import Problem
from ringfence.pages.api_docs import schemas, sections
from ringfence.pages.asking import Asking
from ringfence.pages.assets import Assets
from ringfence.pages.declared import Action, Again, Data, Page, View
from ringfence.pages.live import MOST_PARTS, Feed
from ringfence.pages.rendering import spelt_out
from ringfence.pages.requests import form_of, not_ours, say
from ringfence.pages.shell import Shell, view_of
from ringfence.pages.site import Part, may
from ringfence.pages.streams import Streams
from ringfence.storage.outages import outage

_log = structlog.get_logger("ringfence.pages")
Answer = Callable[[Request, Session], Awaitable[Response]]


class Serving:
    """The routes of the pages."""

    def __init__(self, shell: Shell, feed: Feed, asking: Asking, streams: Streams) -> None:
        self._shell = shell
        self._feed = feed
        self._asking = asking
        self._streams = streams

    def install(self, app: FastAPI, assets: Assets) -> None:
        """Add the routes to an application."""
        routes = app.router
        routes.add_route("/assets/{file}", self._asset(assets), methods=["GET"], include_in_schema=False)
        for path, answer in (("/live", self._live), ("/find", self._find)):
            routes.add_route(path, self._for_programs(answer), methods=["GET"], include_in_schema=False)
        shown = {path: self._for_signed_in(self._page(part)) for path, part in self._shell.site.pages.items()}
        told = {path: self._for_programs(self._data(data)) for path, data in self._shell.site.data.items()}
        for path, answer in self._ordered({**shown, **told}):
            routes.add_route(path, answer, methods=["GET"], include_in_schema=False)
        for path, (plugin, action) in self._ordered(self._shell.site.actions):
            do = self._for_signed_in(self._action(plugin, action))
            routes.add_route(path, do, methods=["POST"], include_in_schema=False)
        routes.add_route("/api/docs", self.guarded(self._api_docs), methods=["GET"], include_in_schema=False)
        told_to_programs = app.exception_handlers[HTTPException]

        @app.exception_handler(HTTPException)
        async def nothing_here(request: Request, error: HTTPException) -> Response:
            if request.url.path.startswith("/api") or "text/html" not in request.headers.get("accept", ""):
                answer: Response = await told_to_programs(request, error)  # type: ignore[misc]
                return answer
            problem = Problem(error.status_code, detail=_in_words(error), headers=error.headers)
            return not_kept(await self._shell.error(request, problem, await _who(request)))

    @staticmethod
    def _ordered(declared: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Paths with words before those with names in their places, so that `/checks/new` is no check's id."""
        return sorted(declared.items(), key=lambda item: item[0].replace("{", "~"))

    def guarded(
        self, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Have whatever goes wrong told in words, and every answer kept by nobody."""

        async def answered(request: Request) -> Response:
            try:
                allowed: browsers.AllowedHosts = request.app.state.allowed_hosts
                if not allowed.allow(request.headers.get("host")):
                    raise not_our_name(request)
                return not_kept(await answer(request))
            except Problem as problem:
                found = problem
            except Exception as error:
                found = self._unforeseen(request, error)
            session = getattr(request.state, "session", None)
            return not_kept(await self._shell.error(request, found, session))

        return answered

    @staticmethod
    def _unforeseen(request: Request, error: Exception) -> Problem:
        if (reason := outage(error)) is not None:
            return Problem(
                503, detail=f"The database is out of order at the moment: {reason}. Try again soon."
            )
        reference = secrets.token_hex(4)
        _log.error("page failed", path=request.url.path, reference=reference, exc_info=error)
        detail = "The host failed at this page. Its log says why, at the reference below."
        return Problem(500, detail=detail, reference=reference)

    def _for_programs(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        """What scripts of our pages ask for: it does not count as somebody's being there, and errors are JSON."""

        async def answered(request: Request) -> Response:
            session = await session_of(request, use=False)
            try:
                if session is None:
                    raise _signed_out()
                return await answer(request, session)
            except Problem as problem:
                return problem.response()

        return self.guarded(answered)

    def _for_signed_in(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def answered(request: Request) -> Response:
            session = await session_of(request, use="fragment" not in request.query_params)
            if session is None:
                if request.method == "POST" and not_ours(request) is None:
                    fields = await form_of(request)
                    fields.pop(browsers.CSRF_FIELD, None)
                    return self._shell.kept(request, fields, None)
                return _to_sign_in(request)
            request.state.session = session
            return await answer(request, session)

        return self.guarded(answered)

    def _page(self, part: Part) -> Answer:
        async def answer(request: Request, session: Session) -> Response:
            _check_may(session, part.shown.rule, part.shown.title)
            return await self._shell.page(request, session, part, view_of(request, session))

        return answer

    def _action(self, plugin: str, action: Action) -> Answer:
        part = Part(
            plugin, Page(path=action.path, title=action.title, template="", show=_nothing, rule=action.rule)
        )

        async def answer(request: Request, session: Session) -> Response:
            form = await form_of(request)
            given = form.pop(browsers.CSRF_FIELD, "") or request.headers.get(browsers.CSRF_HEADER, "")
            if not csrf_fits(session, given):
                if not_ours(request) is None:
                    return self._shell.kept(request, form, session)
                raise Problem(
                    403,
                    "The form is out of date",
                    detail="You have signed in anew since this form was loaded. Go back, reload, and send it again.",
                )
            _check_may(session, action.rule, action.title)
            view = replace(view_of(request, session), form=form)
            done = await action.do(view)
            if isinstance(done, Again):
                return await self._shell.page(request, session, part, view, done)
            response = RedirectResponse(done.to, 303)
            if done.said:
                say(response, done.said, scheme=request.url.scheme)
            return response

        return answer

    async def _api_docs(self, request: Request) -> Response:
        document = request.app.openapi()
        return self._shell.template(
            request, "The API", "api-docs.html", sections=sections(document), schemas=schemas(document)
        )

    def _data(self, data: Data) -> Answer:
        async def answer(request: Request, session: Session) -> Response:
            _check_may(session, data.rule, "This")
            view = view_of(request, session)
            told = await data.answer(view)
            if isinstance(told, StreamingResponse):

                async def allowed() -> bool:
                    try:
                        principal = await view.rights()
                    except (SQLAlchemyError, OSError):
                        # It cannot be told: the browser asks again, perhaps an instance that has a database.
                        return False
                    return principal is not None and may(principal, data.rule)

                self._streams.hold(told, view.session, allowed)
            return told

        return answer

    async def _find(self, request: Request, session: Session) -> Response:
        view = view_of(request, session)
        found = await self._asking.find(view, view.query.get("q", ""))
        return JSONResponse({"found": [asdict(replace(one, words=spelt_out(one.words))) for one in found]})

    async def _live(self, request: Request, session: Session) -> Response:
        watched = request.query_params.getlist("watch")[:MOST_PARTS]
        known = request.headers.get("last-event-id") or request.query_params.get("after", "")
        position = (
            int(known) if known.isascii() and known.isdigit() and len(known) < 19 else await self._feed.last()
        )
        view = view_of(request, session)

        async def rights() -> Mapping[str, frozenset[str]] | None:
            principal = await view.rights()
            return None if principal is None else self._shell.site.live(watched, principal)

        self._feed.check_room(str(session.id), session.token)

        async def messages() -> AsyncIterator[str]:
            with self._feed.place(str(session.id), session.token):
                async for one in self._feed.follow(position, rights):
                    yield one

        return StreamingResponse(
            messages(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )

    def _asset(self, assets: Assets) -> Callable[[Request], Awaitable[Response]]:
        async def answered(request: Request) -> Response:
            try:
                return await assets.serve(request, request.path_params["file"])
            except Problem as problem:
                return problem.response()

        return answered


async def _nothing(_: View) -> Mapping[str, Any]:
    return {}


def not_kept(response: Response) -> Response:
    """A page's answer, which no browser or proxy keeps."""
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _check_may(session: Session, rule: Any, title: str) -> None:
    if not may(session.principal, rule):
        name = rule if isinstance(rule, str) else rule.name
        raise Problem(
            403,
            "You may not see this",
            detail=f"{title} needs the access rule {name}, which the token {session.principal.name} does not hold.",
        )


def _signed_out() -> Problem:
    return Problem(401, "Not signed in", detail="Your session has ended. Sign in again.")


def _to_sign_in(request: Request) -> Response:
    if "fragment" in request.query_params or request.method != "GET":
        raise _signed_out()
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    query = {} if here == "/" else {"to": here}
    if browsers.cookie_name(request.url.scheme) in request.cookies:
        query["ended"] = "yes"
    return RedirectResponse(f"/sign-in?{urlencode(query)}" if query else "/sign-in", 303)


async def _who(request: Request) -> Session | None:
    """Who is signed in, where that may be known: what is around an error is shown without it, too."""
    try:
        return await session_of(request, use=False)
    except Exception:
        return None


def _in_words(error: HTTPException) -> str:
    return "There is no such page." if error.status_code == 404 else str(error.detail)
