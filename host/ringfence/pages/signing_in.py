"""Signing in with a token or by a link, and signing out.

A session's secret is made anew at each signing in, and the one that the browser had before is ended, so that nobody can
have planted it. Also before anybody is signed in, a form is taken only from our own page: else another site could have
somebody work under a name that is not theirs.
"""

from __future__ import annotations

import contextlib
import datetime as dt

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse

from ringfence.access import (
    Access,
    Session,
    Sessions,
    SignIn,
    TooManyFailuresError,
    TooManySessionsError,
    UnknownSessionError,
)
from ringfence.access.sessions import csrf_fits
from ringfence.http import browsers
from ringfence.http.guard import peer_of, session_of
from ringfence.http.problems import Problem
from ringfence.pages.requests import form_of, is_own_place, not_ours, query_of
from ringfence.pages.serving import Serving
from ringfence.pages.shell import Shell

MOST_TOKEN = 500


class SigningIn:
    """The routes."""

    def __init__(self, shell: Shell, sessions: Sessions, *, longest_seconds: float) -> None:
        self._shell = shell
        self._sessions = sessions
        self._longest_seconds = longest_seconds

    def install(self, app: FastAPI, serving: Serving) -> None:
        """Add the routes to an application."""
        for path, method, answer in (
            ("/sign-in", "GET", self._form),
            ("/sign-in", "POST", self._sign_in),
            ("/sign-in/{link}", "GET", self._link),
            ("/sign-in/{link}", "POST", self._follow),
            ("/sign-out", "POST", self._sign_out),
        ):
            app.router.add_route(path, serving.guarded(answer), methods=[method], include_in_schema=False)

    async def _form(self, request: Request) -> Response:
        query = query_of(request)
        to = query.get("to", "/")
        if await session_of(request) is not None:
            return RedirectResponse(to if is_own_place(to) else "/", 303)
        return self._shell.template(
            request, "Sign in", "sign-in.html", to=to, wrong=None, ended="ended" in query
        )

    async def _sign_in(self, request: Request) -> Response:
        _check_ours(request)
        form = await form_of(request)
        to, secret = form.get("to", "/"), form.get("token", "").strip()
        sign_in: SignIn = request.app.state.sign_in
        try:
            began = None
            if 0 < len(secret) <= MOST_TOKEN:
                began = await sign_in.begin_session(
                    secret, peer_of(request), request.headers.get("user-agent")
                )
        except (TooManyFailuresError, TooManySessionsError) as error:
            told = str(error)
            answer = self._again(request, to, f"{told[0].upper()}{told[1:]}.", status=429)
            answer.headers["Retry-After"] = str(error.seconds)
            return answer
        if began is None:
            return self._again(request, to, await _why_not(sign_in.access, secret))
        return await self._begun(request, began, to)

    def _again(self, request: Request, to: str, wrong: str, *, status: int = 401) -> Response:
        """The form, with what was wrong."""
        return self._shell.template(
            request, "Sign in", "sign-in.html", status=status, to=to, wrong=wrong, ended=False
        )

    async def _link(self, request: Request) -> Response:
        headers = request.headers
        # A person has opened it by hand, or a program on their machine; not a page, nor what looks at links for others.
        by_hand = headers.get("sec-fetch-site") == "none" and headers.get("sec-fetch-mode") == "navigate"
        if by_hand and "sec-purpose" not in headers:
            return await self._used(request)
        return self._shell.template(request, "Sign in", "link.html", link=request.path_params["link"])

    async def _follow(self, request: Request) -> Response:
        _check_ours(request)
        return await self._used(request)

    async def _used(self, request: Request) -> Response:
        sign_in: SignIn = request.app.state.sign_in
        peer = peer_of(request)
        try:
            began = await sign_in.follow_link(
                request.path_params["link"], peer, request.headers.get("user-agent")
            )
        except TooManyFailuresError as error:
            raise Problem(
                429, "Too many attempts", detail=str(error), headers={"Retry-After": str(error.seconds)}
            ) from error
        if began is None:
            raise Problem(
                401,
                "This link does not hold",
                detail="A link signs in once, within two minutes. Get another with: ringfence open",
            )
        return await self._begun(request, began, "/")

    async def _begun(self, request: Request, secret: str, to: str) -> Response:
        await self._end_what_was_before(request)
        secure = request.url.scheme == "https"
        response = RedirectResponse(to if is_own_place(to) else "/", 303)
        response.set_cookie(
            browsers.cookie_name(request.url.scheme),
            secret,
            max_age=int(self._longest_seconds),
            path="/",
            httponly=True,
            samesite="strict",
            secure=secure,
        )
        return response

    async def _end_what_was_before(self, request: Request) -> None:
        before = request.cookies.get(browsers.cookie_name(request.url.scheme))
        session = None if not before else await self._sessions.find(before, use=False)
        if session is not None:
            await self._end(request, session)

    async def _end(self, request: Request, session: Session) -> None:
        with contextlib.suppress(UnknownSessionError):  # It has ended meanwhile.
            await self._sessions.end(session.id, by=session.principal, peer=peer_of(request))

    async def _sign_out(self, request: Request) -> Response:
        # Also where no cookie came along, as from another site: the answer would take it from the browser.
        _check_ours(request)
        session = await session_of(request)
        if session is not None:
            form = await form_of(request)
            if not csrf_fits(session, form.get(browsers.CSRF_FIELD, "")):
                raise Problem(403, "The form is out of date", detail="Go back, reload, and send it again.")
            await self._end(request, session)
        response = RedirectResponse("/sign-in", 303)
        secure = request.url.scheme == "https"
        response.delete_cookie(
            browsers.cookie_name(request.url.scheme),
            path="/",
            secure=secure,
            httponly=True,
            samesite="strict",
        )
        return response


async def _why_not(access: Access, secret: str) -> str:
    """Why a token signs nobody in. That it has ended is told to whoever has it: nobody else could send it."""
    if not secret:
        return "Enter a token."
    ended = await access.ended(secret) if len(secret) <= MOST_TOKEN else None
    if ended is None:
        return (
            "This token is not known here. Look whether all of it was copied, and whether it is this host's."
        )
    if ended.revoked_at is not None:
        return f"This token was revoked, {_at(ended.revoked_at)}. Ask whoever makes tokens for another."
    return f"This token has expired, {_at(ended.expires_at)}. Ask whoever makes tokens for another."


def _at(moment: dt.datetime | None) -> str:
    return "" if moment is None else f"on {moment.astimezone(dt.UTC):%Y-%m-%d at %H:%M} UTC"


def _check_ours(request: Request) -> None:
    """Raise `Problem` for a form that is not known to be ours."""
    if (why := not_ours(request)) is not None:
        raise Problem(403, "Not from a page of ours", detail=f"This form is refused: {why}.")
