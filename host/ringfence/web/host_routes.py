"""The host's own API: the plugins it runs, and the API tokens of the installation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field

from ringfence.access import Access, AccessError, AccessRule, ApiToken, TokenNameTakenError
from ringfence.bounded import Label, ShortText
from ringfence.lifecycle import LoadedPlugin
from ringfence.web.event_routes import EVENT_RULES
from ringfence.web.guard import Principal, require
from ringfence.web.problems import Problem

READ_PLUGINS = AccessRule("host", "plugin", "read", "See which plugins are loaded and what they declare")
MANAGE_TOKENS = AccessRule("host", "token", "manage", "Create, list and revoke API tokens")
HOST_RULES = (READ_PLUGINS, MANAGE_TOKENS, *EVENT_RULES)


class NewToken(BaseModel):
    """A token to make: what it is for, and the access rules that it holds."""

    model_config = ConfigDict(extra="forbid")

    name: Label
    rules: list[ShortText] = Field(min_length=1, max_length=200)


def build(plugins: Sequence[LoadedPlugin], access: Access) -> APIRouter:
    """The routes, over one instance's plugins and tokens."""
    router = APIRouter()

    @router.get("/plugins")
    async def list_plugins(_: Annotated[Principal, Depends(require(READ_PLUGINS))]) -> dict[str, Any]:
        return {"plugins": [_plugin(one) for one in plugins]}

    @router.get("/rules")
    async def list_rules(_: Annotated[Principal, Depends(require(MANAGE_TOKENS))]) -> dict[str, Any]:
        rules = sorted(access.rules.values(), key=lambda rule: rule.name)
        return {"rules": [{"name": rule.name, "description": rule.description} for rule in rules]}

    @router.post("/tokens", status_code=201)
    async def create_token(
        wanted: NewToken, principal: Annotated[Principal, Depends(require(MANAGE_TOKENS))]
    ) -> dict[str, Any]:
        try:
            token, secret = await access.create(wanted.name, wanted.rules, by=principal)
        except TokenNameTakenError as error:
            raise Problem(409, detail=str(error)) from error
        except AccessError as error:
            raise Problem(422, detail=str(error)) from error
        return {"token": secret, **_token(token)}

    @router.get("/tokens")
    async def list_tokens(_: Annotated[Principal, Depends(require(MANAGE_TOKENS))]) -> dict[str, Any]:
        return {"tokens": [_token(token) for token in await access.tokens()]}

    @router.delete("/tokens/{id_or_name}", status_code=204)
    async def revoke_token(
        id_or_name: ShortText, _: Annotated[Principal, Depends(require(MANAGE_TOKENS))]
    ) -> Response:
        if not await access.revoke(id_or_name):
            raise Problem(404, detail=f"no live API token has the id or name {id_or_name!r}")
        return Response(status_code=204)

    return router


def _plugin(one: LoadedPlugin) -> dict[str, Any]:
    registry = one.registry
    return {
        "id": one.info.id,
        "version": one.info.version,
        "requires": list(one.info.requires),
        "optional": one.info.optional,
        "phase": one.phase,
        "error": one.error,
        "hooks": sorted(registry.hooks),
        "rules": sorted(registry.rules),
        "routes": _routes(one),
    }


def _routes(one: LoadedPlugin) -> list[str]:
    """What the plugin serves, each as method and path."""
    served = [
        f"{method} /api/{one.info.id}{route.path}"
        for router in one.registry.web.routers
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    ]
    sockets = [f"WS /api/ws/{one.info.id}{path}" for path in one.registry.web.websockets]
    return sorted(served + sockets, key=lambda text: text.split()[::-1])


def _token(token: ApiToken) -> dict[str, Any]:
    return {
        "id": str(token.id),
        "name": token.name,
        "rules": list(token.rules),
        "createdAt": token.created_at,
        "createdBy": token.created_by,
        "lastUsedAt": token.last_used_at,
        "revokedAt": token.revoked_at,
    }
