"""What is around what a page shows: the document, its panels, what goes wrong in words, and what was entered."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from ringfence.access import Principal, Session, SignIn
from ringfence.bounded import storable
from ringfence.http import browsers
from ringfence.http.guard import peer_of
from ringfence.http.problems import Problem
from ringfence.pages.assets import Assets
from ringfence.pages.declared import Again, Page, Panel, View
from ringfence.pages.live import Feed
from ringfence.pages.rendering import Templates
from ringfence.pages.requests import query_of, said_before, say
from ringfence.pages.site import Link, Part, Site, holds_whole
from ringfence.pages.ways_on import pages_above, ways_on

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
            view = replace(view_of(request, session), parameters=names, query={})
            if not names or problem.status >= 500 or await _is_there(page, view):
                return Link(f"Go to: {page.title}", place)
        return None


def view_of(request: Request, session: Session) -> View:
    """What a page is asked with. Raises `Problem` for names in its path that nothing can have."""
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


async def _is_there(page: Page, view: View) -> bool:
    """Whether a page can be shown now: what it is about may have gone."""
    try:
        await page.show(view)
    except Exception:
        return False
    return True
