"""Bearer authentication (RFC 6750), and access rules on routes. 401: who are you? 403: you may not.

Scripts of our own pages are let in by the browser's session instead, if they send along what only those pages know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from ringfence.access import (
    AccessError,
    AccessRule,
    Identity,
    Principal,
    Session,
    SignIn,
    TooManyFailuresError,
)
from ringfence.access.sessions import csrf_fits
from ringfence.http import browsers
from ringfence.http.problems import Problem

__all__ = ["Caller", "Principal", "peer_of", "require", "require_on"]


class _Described(SecurityBase):
    """Has the API's description (OpenAPI) say that a route takes a token, and with which rule. It refuses nobody."""

    def __init__(self) -> None:
        self.model = HTTPBearer()
        self.scheme_name = "token"

    async def __call__(self) -> None:
        """Let everybody pass: who may is decided by what depends on this."""


_DESCRIBED = _Described()


def require(rule: AccessRule | str, *, narrowed: bool = False) -> Callable[[Request], Awaitable[Principal]]:
    """A FastAPI dependency that answers the principal if they hold `rule`, and refuses the request otherwise.

    `principal: Annotated[Principal, Depends(require(rule))]`

    With `narrowed`, also who holds it for what carries some labels alone: the route must then ask `require_on`, with
    the labels of what the request is about. A rule that no plugin declares is a fault in the plugin, and not a right
    that nobody happens to have.
    """
    name = rule if isinstance(rule, str) else rule.name

    async def guard(request: Request, _: None = Security(_DESCRIBED, scopes=[name])) -> Principal:
        sign_in: SignIn = request.app.state.sign_in
        principal = await _authenticate(request)
        if name not in sign_in.access.rules:
            raise AccessError(
                f"{request.url.path} asks for the access rule {name}, which no plugin declares: registry.access_rule()"
            )
        if not (principal.holds_somewhere(name) if narrowed else principal.holds(name)):
            raise _lacks(principal, name)
        request.state.principal = principal
        return principal

    return guard


def require_on(principal: Principal, rule: AccessRule | str, labels: Collection[str]) -> None:
    """Refuse the request unless the principal may use `rule` on what carries these labels.

    Raises `Problem` (403).
    """
    name = rule if isinstance(rule, str) else rule.name
    if not principal.holds_on(name, labels):
        raise _lacks(principal, name)


def peer_of(request: Request) -> str:
    """The address that a request comes from, as far as is known (see `RINGFENCE_TRUSTED_PROXIES`)."""
    return request.client.host if request.client is not None and request.client.host else "a local socket"


def _lacks(principal: Principal, rule: str) -> Problem:
    narrowed = ", ".join(sorted(str(grant) for grant in principal.narrowed if grant.rule == rule))
    detail = f"{principal.name} does not hold the access rule {rule}"
    return Problem(403, detail=f"{detail} here, only: {narrowed}" if narrowed else detail, rule=rule)


async def _admitted(request: Request) -> Principal:
    principal: Principal | None = getattr(request.state, "principal", None)
    if principal is None:
        raise AccessError(
            f"{request.url.path} wants to know its caller, and no access rule guards it: registry.guarded_router()"
        )
    return principal


Caller = Annotated[Principal, Depends(_admitted)]
"""Whom the route's access rule has let in: the type of a parameter of a route that a rule guards."""


def bearer_of(request: Request) -> str | None:
    """The API token that a request sends, if it sends one."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


async def identify(request: Request, _: None = Security(_DESCRIBED)) -> Identity:
    """Whose API token a request sends, and which token that is: for what is offered to everybody who has one.

    Raises `Problem`.
    """
    sign_in: SignIn = request.app.state.sign_in
    secret = bearer_of(request)
    if secret is None:
        raise Problem(
            401,
            detail="send an API token: Authorization: Bearer <token>",
            headers={"WWW-Authenticate": 'Bearer realm="ringfence"'},
        )
    try:
        identity = await sign_in.identity(secret, peer_of(request))
    except TooManyFailuresError as error:
        raise Problem(429, detail=str(error), headers={"Retry-After": str(error.seconds)}) from error
    if identity is None:
        raise Problem(
            401,
            detail="this API token is not known here, or has been revoked",
            headers={"WWW-Authenticate": 'Bearer realm="ringfence", error="invalid_token"'},
        )
    return identity


async def known(request: Request) -> None:
    """Let pass whoever has a token or a session, whatever they may do. Raises `Problem`."""
    if bearer_of(request) is not None or await session_of(request, use=False) is None:
        await identify(request)


async def session_of(request: Request, *, use: bool = True) -> Session | None:
    """The session of the browser that sends a request, if it is signed in.

    Raises `Problem` where the request is not one of our own pages', or asks for a name that is not ours.
    """
    secret = request.cookies.get(browsers.cookie_name(request.url.scheme))
    if not secret:
        return None
    allowed: browsers.AllowedHosts = request.app.state.allowed_hosts
    if not allowed.allow(request.headers.get("host")):
        raise not_our_name(request)
    if (why := browsers.foreign(request.method, request.url.scheme, request.headers)) is not None:
        raise Problem(403, "Not from a page of ours", detail=f"this request is refused: {why}")
    sign_in: SignIn = request.app.state.sign_in
    return await sign_in.session(secret, use=use)


def not_our_name(request: Request) -> Problem:
    """What is answered to a browser that asks for a name which nobody has said is ours."""
    name = request.headers.get("host", "")[:200]
    return Problem(
        421,
        "Not our name",
        detail=f"this instance is not known as {name!r}: add the name to RINGFENCE_ALLOWED_HOSTS, or use its address",
    )


async def _authenticate(request: Request) -> Principal:
    if bearer_of(request) is None and (session := await session_of(request)) is not None:
        if not csrf_fits(session, request.headers.get(browsers.CSRF_HEADER, "")):
            raise Problem(
                403,
                "Not from a page of ours",
                detail=f"a request that a browser's session lets in carries the header {browsers.CSRF_HEADER}",
            )
        return session.principal
    return (await identify(request)).principal
