"""Bearer authentication (RFC 6750), and access rules on routes. 401: who are you? 403: you may not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Annotated

from fastapi import Depends, Request

from ringfence.access import AccessError, AccessRule, Principal, SignIn, TooManyFailuresError
from ringfence.http.problems import Problem

__all__ = ["Caller", "Principal", "peer_of", "require", "require_on"]


def require(rule: AccessRule | str, *, narrowed: bool = False) -> Callable[[Request], Awaitable[Principal]]:
    """A FastAPI dependency that answers the principal if they hold `rule`, and refuses the request otherwise.

    `principal: Annotated[Principal, Depends(require(rule))]`

    With `narrowed`, also who holds it for what carries some labels alone: the route must then ask `require_on`, with
    the labels of what the request is about. A rule that no plugin declares is a fault in the plugin, and not a right
    that nobody happens to have.
    """
    name = rule if isinstance(rule, str) else rule.name

    async def guard(request: Request) -> Principal:
        sign_in: SignIn = request.app.state.sign_in
        principal = await _authenticate(request, sign_in)
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


async def _authenticate(request: Request, sign_in: SignIn) -> Principal:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Problem(
            401,
            detail="send an API token: Authorization: Bearer <token>",
            headers={"WWW-Authenticate": 'Bearer realm="ringfence"'},
        )
    try:
        principal = await sign_in.principal(secret.strip(), peer_of(request))
    except TooManyFailuresError as error:
        raise Problem(429, detail=str(error), headers={"Retry-After": str(error.seconds)}) from error
    if principal is None:
        raise Problem(
            401,
            detail="this API token is not known here, or has been revoked",
            headers={"WWW-Authenticate": 'Bearer realm="ringfence", error="invalid_token"'},
        )
    return principal
