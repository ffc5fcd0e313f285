"""Bearer authentication (RFC 6750), and access rules on routes. 401: who are you? 403: you may not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request

from ringfence.access import Access, AccessError, AccessRule, Principal
from ringfence.web.problems import Problem

__all__ = ["Caller", "Principal", "require"]


def require(rule: AccessRule | str) -> Callable[[Request], Awaitable[Principal]]:
    """A FastAPI dependency that answers the principal if they hold `rule`, and refuses the request otherwise.

    `principal: Annotated[Principal, Depends(require(rule))]`

    A rule that no plugin declares is a fault in the plugin, and not a right that nobody happens to have.
    """
    name = rule if isinstance(rule, str) else rule.name

    async def guard(request: Request) -> Principal:
        access: Access = request.app.state.access
        principal = await _authenticate(request, access)
        if name not in access.rules:
            raise AccessError(
                f"{request.url.path} asks for the access rule {name}, which no plugin declares: registry.access_rule()"
            )
        if not principal.holds(name):
            raise Problem(403, detail=f"{principal.name} does not hold the access rule {name}", rule=name)
        request.state.principal = principal
        return principal

    return guard


async def _admitted(request: Request) -> Principal:
    principal: Principal | None = getattr(request.state, "principal", None)
    if principal is None:
        raise AccessError(
            f"{request.url.path} wants to know its caller, and no access rule guards it: registry.guarded_router()"
        )
    return principal


Caller = Annotated[Principal, Depends(_admitted)]
"""Whom the route's access rule has let in: the type of a parameter of a route that a rule guards."""


async def _authenticate(request: Request, access: Access) -> Principal:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Problem(
            401,
            detail="send an API token: Authorization: Bearer <token>",
            headers={"WWW-Authenticate": 'Bearer realm="ringfence"'},
        )
    principal = await access.authenticate(secret.strip())
    if principal is None:
        raise Problem(
            401,
            detail="this API token is not known here, or has been revoked",
            headers={"WWW-Authenticate": 'Bearer realm="ringfence", error="invalid_token"'},
        )
    return principal
