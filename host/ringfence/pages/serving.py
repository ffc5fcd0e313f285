"""The pages over HTTP: who may see one, its content and its panels, forms, and what goes wrong, in words."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse
from markupsafe import Markup
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from ringfence.access import Principal, Session, SignIn
from ringfence.access.sessions import csrf_fits
from ringfence.bounded import storable
from ringfence.http import browsers
from ringfence.http.guard import not_our_name, peer_of, session_of
from ringfence.http.problems import Problem
from ringfence.pages.api_docs import schemas, sections
from ringfence.pages.asking import Asking
from ringfence.pages.assets import Assets
from ringfence.pages.declared import Action, Again, Data, Page, Panel, View
from ringfence.pages.live import MOST_PARTS, Feed
from ringfence.pages.rendering import Templates, spelt_out
from ringfence.pages.requests import form_of, not_ours, query_of, said_before, say
from ringfence.pages.site import Link, Part, Site, holds_whole, may
from ringfence.pages.streams import Streams
from ringfence.pages.ways_on import pages_above, ways_on
from ringfence.storage.outages import outage

_log = structlog.get_logger("ringfence.pages")
Answer = Callable[[Request, Session], Awaitable[Response]]
MOST_NAMED = 80
"""Characters of a name in the title of a browser's tab."""


class Shell:
    """Renders what is within a page, and what is around it."""

    def __init__(self, site: Site, templates: Templates, assets: Assets, feed: Feed) -> None:
        self.site = site
        self._templates = templates
        self._assets = assets
        self._feed = feed

    async def page(
        self, request: Request, session: Session, part: Part, view: View, again: Again | None = None
    ) -> Response:
        """A page, or one part of it; `again` is shown instead of its content."""
        path = part.shown.path if isinstance(part.shown, Page) else ""
        panels = self.site.panels_of(path, session.principal) if again is None else []
        wanted = view.query.get("fragment")
        if wanted is not None:
            for one in (part, *panels):
                if one.name == wanted:
                    if one is not part and not holds_whole(session.principal, part.shown.rule):
                        # What the page is about may be out of their reach: the page itself says so.
                        await part.shown.show(view)
                    content, _ = await self._content(one, view, session)
                    return HTMLResponse(content or "", headers={"Cache-Control": "no-store"})
            raise Problem(404, detail="this page has no such part")
        # Before anything of it is read: what happens meanwhile is told of, and not missed.
        position = await self._feed.last()
        parts, named = [], ""
        for one in (part, *panels):
            if again is not None:
                template = f"{part.plugin}/{again.template}"
                content = await self._filled(template, again.data, view, session)
            else:
                content, name = await self._content(one, view, session)
                named = name if one is part else named
            if content is not None:
                parts.append(self._part(request, one, content, still=again is not None))
        status = 200 if again is None else again.status
        title = part.shown.title
        return self.around(request, title, parts, session, position=position, status=status, named=named)

    async def _content(self, part: Part, view: View, session: Session) -> tuple[Markup | None, str]:
        """What is shown, and the name of what it shows, which the tab of the browser has."""
        data = await part.shown.show(view)
        if data is None:
            return None, ""
        return await self._filled(part.template, data, view, session), str(data.get("named", ""))

    async def _filled(self, template: str, data: Mapping[str, Any], view: View, session: Session) -> Markup:
        ask = self.site.holders.get(template)
        held = None if ask is None else await ask(view)
        values = {"view": view, "csrf_token": session.csrf, "held": held}
        locked = "" if held is None else self._templates.render("lock.html", values)
        rendered = self._templates.render(template, {**values, **data})
        # It comes from templates, in which each value was escaped.
        return Markup(locked + rendered)  # noqa: S704

    def _part(self, request: Request, part: Part, content: Markup, *, still: bool) -> dict[str, Any]:
        query = [(key, value) for key, value in request.query_params.multi_items() if key != "fragment"]
        again = f"{request.url.path}?{urlencode([*query, ('fragment', part.name)])}"
        return {
            "name": part.name,
            "title": part.shown.title if isinstance(part.shown, Panel) else None,
            "content": content,
            "again": None if still else again,
            "live": bool(part.shown.live),
        }

    def around(
        self,
        request: Request,
        title: str,
        parts: list[dict[str, Any]],
        session: Session | None,
        *,
        position: int | None = None,
        status: int = 200,
        named: str = "",
        kept: bool = False,
    ) -> Response:
        """The whole document around what is shown; `kept`: reloading it is to send the form again."""
        principal = None if session is None else session.principal
        said = said_before(request)
        navigation = {} if principal is None else self.site.navigation(principal)
        path = request.url.path
        around = [
            link.path
            for links in navigation.values()
            for link in links
            if f"{path}/".startswith(f"{link.path}/")
        ]
        values = {
            "title": title,
            "named": named[:MOST_NAMED],
            "parts": parts,
            "here": path,
            "within": max(around, key=len, default=""),
            "principal": principal,
            "navigation": navigation,
            "commands": [] if principal is None else list(self.site.commands(principal)),
            "csrf_token": None if session is None else session.csrf,
            "position": position,
            "answers": request.method == "POST" and not kept,
            "said": said,
            "icon": self._assets.path("icon.svg"),
            "style": self._assets.path("ringfence.css"),
            "islands": self._assets.islands,
            "script": self._assets.path("ringfence.js"),
        }
        response = HTMLResponse(self._templates.render("layout.html", values), status)
        if said is not None:
            say(response, "", scheme=request.url.scheme)
        return response

    def template(
        self, request: Request, title: str, template: str, *, status: int = 200, **data: Any
    ) -> Response:
        """A page of the host's that needs nobody to be signed in."""
        content = Markup(self._templates.render(template, data))  # noqa: S704
        part = {"name": "", "title": None, "content": content, "again": None, "live": False}
        return self.around(request, title, [part], None, status=status)

    def kept(self, request: Request, fields: Mapping[str, str], session: Session | None) -> Response:
        """What somebody has entered, to be sent again: their session has ended, or has begun since it was loaded.

        Only for a form that is known to come from a page of ours, since it is sent again at a press of a button.
        """
        to = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        data = {"fields": fields, "to": to, "csrf_token": None if session is None else session.csrf}
        content = Markup(self._templates.render("kept.html", data))  # noqa: S704
        part = {"name": "", "title": None, "content": content, "again": None, "live": False}
        title = "Not signed in" if session is None else "The form is out of date"
        status = 401 if session is None else 403
        return self.around(request, title, [part], session, status=status, kept=True)

    async def error(self, request: Request, problem: Problem, session: Session | None) -> Response:
        """What went wrong, in words."""
        principal = None if session is None else session.principal
        above = None if session is None else await self._above(request, problem, session)
        ways = ways_on(problem, principal, above, path=request.url.path, method=request.method)
        data = {
            "ways": ways,
            "title": problem.title,
            "status": problem.status,
            "detail": problem.detail,
            "extra": problem.extra,
        }
        content = Markup(self._templates.render("error.html", data))  # noqa: S704
        part = {"name": "", "title": None, "content": content, "again": None, "live": False}
        response = self.around(request, problem.title, [part], session, status=problem.status)
        response.headers.update(problem.headers)
        return response

    async def _above(self, request: Request, problem: Problem, session: Session) -> Link | None:
        """The nearest page above this one; of what has names in its path, only what is there is named."""
        asked = request.method == "GET"
        for page, place, names in pages_above(self.site, session.principal, request.url.path, asked=asked):
            view = replace(_view(request, session), parameters=names, query={})
            if not names or problem.status >= 500 or await _is_there(page, view):
                return Link(f"Go to: {page.title}", place)
        return None


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
            return await self._shell.page(request, session, part, _view(request, session))

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
            view = replace(_view(request, session), form=form)
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
            view = _view(request, session)
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
        view = _view(request, session)
        found = await self._asking.find(view, view.query.get("q", ""))
        return JSONResponse({"found": [asdict(replace(one, words=spelt_out(one.words))) for one in found]})

    async def _live(self, request: Request, session: Session) -> Response:
        watched = request.query_params.getlist("watch")[:MOST_PARTS]
        known = request.headers.get("last-event-id") or request.query_params.get("after", "")
        position = (
            int(known) if known.isascii() and known.isdigit() and len(known) < 19 else await self._feed.last()
        )
        view = _view(request, session)

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


async def _is_there(page: Page, view: View) -> bool:
    """Whether a page can be shown now: what it is about may have gone."""
    try:
        await page.show(view)
    except Exception:
        return False
    return True


async def _nothing(_: View) -> Mapping[str, Any]:
    return {}


def not_kept(response: Response) -> Response:
    """A page's answer, which no browser or proxy keeps."""
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _view(request: Request, session: Session) -> View:
    sign_in: SignIn = request.app.state.sign_in
    site: Site = request.app.state.site
    secret = request.cookies[browsers.cookie_name(request.url.scheme)]

    async def rights() -> Principal | None:
        now = await sign_in.session(secret, use=False)
        return None if now is None else now.principal

    return View(
        origin=f"{request.url.scheme}://{request.url.netloc}",
        rights=rights,
        sees=partial(site.sees, session.principal),
        principal=session.principal,
        parameters=_names(request.path_params),
        query=query_of(request),
        peer=peer_of(request),
        session=str(session.id),
        token=session.token,
        now=dt.datetime.now(dt.UTC),
        last_event_id=request.headers.get("last-event-id"),
    )


def _names(parameters: Mapping[str, str]) -> dict[str, str]:
    """What stands in the path. Raises `Problem` for what no name can be, as no database takes it."""
    try:
        return {name: storable(value) for name, value in parameters.items()}
    except ValueError as error:
        raise Problem(404, detail="There is no such page.") from error


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
