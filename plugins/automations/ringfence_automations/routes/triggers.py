"""What may be listened to, webhooks' addresses, and what comes to these."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from ringfence import PluginContext
from ringfence.bounded import STORABLE
from ringfence.web import Caller, Problem, peer_of

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.definitions.trigger import TriggerKind
from ringfence_automations.routes.parameters import Name
from ringfence_automations.triggers.catalogue import catalogue
from ringfence_automations.triggers.hearing import Hearing
from ringfence_automations.triggers.webhooks import addresses
from ringfence_automations.triggers.webhooks.receiving import Received, Receiving
from ringfence_automations.triggers.wiring import Triggers

Secret = Annotated[str, Path(max_length=200), STORABLE]


def add(context: PluginContext, rules: AccessRules, triggers: Triggers) -> None:
    """Serve the routes."""
    routes = _Routes(context, triggers.hearing, triggers.receiving)
    context.web.guarded_router(rules.read).get("/triggers")(routes.list_hooks)
    read = context.web.guarded_router(rules.read)
    read.get("/automations/{name}/webhook")(routes.show_address)
    manage = context.web.guarded_router(rules.manage)
    manage.post("/automations/{name}/webhook", status_code=201)(routes.make_address)
    manage.delete("/automations/{name}/webhook", status_code=204)(routes.remove_address)
    # Whoever knows the address may use it.
    anybody = APIRouter()
    anybody.post("/hooks/{secret}", status_code=202)(routes.receive)
    context.web.router(anybody)


class _Routes:
    def __init__(self, context: PluginContext, hearing: Hearing, receiving: Receiving) -> None:
        self._context = context
        self._hearing = hearing
        self._receiving = receiving

    async def list_hooks(self) -> dict[str, Any]:
        """The hooks that can start automations, and what each of their events tells."""
        return {"hooks": catalogue(self._context.hooks.all())}

    async def show_address(self, name: Name) -> dict[str, Any]:
        """When an automation's webhook address was made, and when it was used last. The address is not shown again."""
        async with self._context.sessions.begin() as session:
            found = await addresses.one(session, name)
        if found is None:
            raise _no_address(name)
        return {
            "automation": found.automation,
            "createdAt": found.created_at,
            "createdBy": found.created_by,
            "lastUsedAt": found.last_used_at,
        }

    async def make_address(self, name: Name, caller: Caller) -> dict[str, Any]:
        """Make a new webhook address for an automation, which is shown this once. Another one that it has is void."""
        armed = await self._hearing.armed(name)
        if armed is None:
            raise Problem(404, detail=f"there is no automation {name} that is enabled")
        if not armed.of_kind(TriggerKind.WEBHOOK):
            raise Problem(409, detail=f"{name} has no webhook among its triggers: add `- webhook: true`")
        async with self._context.sessions.begin() as session:
            secret = await addresses.make(session, name, by=caller.name)
        return {"automation": name, "path": f"/api/automations/hooks/{secret}"}

    async def remove_address(self, name: Name) -> None:
        """Have an automation's webhook address lead nowhere any more."""
        async with self._context.sessions.begin() as session:
            if not await addresses.remove(session, name):
                raise _no_address(name)

    async def receive(self, secret: Secret, request: Request) -> dict[str, Any]:
        """Start the automation whose webhook address this is."""
        received = Received(
            request.method,
            tuple((name, value) for name, value in request.headers.items()),
            request.url.query,
            peer_of(request),
        )
        return await self._receiving.receive(secret, received, request.stream())


def _no_address(name: str) -> Problem:
    return Problem(
        404, detail=f"{name} has no webhook address: make one with `ringfence automation webhook {name}`"
    )
