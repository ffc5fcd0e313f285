"""What may be listened to, webhooks' addresses, and what comes to these."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Request
from ringfence import PluginContext
from ringfence.bounded import STORABLE
from ringfence.web import Caller, Router, peer_of

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.by_hand.webhooks import Webhooks, no_address
from ringfence_automations.routes.parameters import Name
from ringfence_automations.triggers.catalogue import catalogue
from ringfence_automations.triggers.webhooks.receiving import Received, Receiving
from ringfence_automations.triggers.wiring import Triggers

Secret = Annotated[str, Path(max_length=200), STORABLE]


def add(context: PluginContext, rules: AccessRules, triggers: Triggers, webhooks: Webhooks) -> None:
    """Serve the routes."""
    routes = _Routes(context, webhooks, triggers.receiving)
    context.web.guarded_router(rules.read).get("/triggers")(routes.list_hooks)
    read = context.web.guarded_router(rules.read)
    read.get("/automations/{name}/webhook")(routes.show_address)
    manage = context.web.guarded_router(rules.manage)
    manage.post("/automations/{name}/webhook", status_code=201)(routes.make_address)
    manage.delete("/automations/{name}/webhook", status_code=204)(routes.remove_address)
    # Whoever knows the address may use it.
    anybody = Router()
    anybody.post("/hooks/{secret}", status_code=202)(routes.receive)
    context.web.streams("/hooks/{secret}")
    context.web.router(anybody)


class _Routes:
    def __init__(self, context: PluginContext, webhooks: Webhooks, receiving: Receiving) -> None:
        self._context = context
        self._webhooks = webhooks
        self._receiving = receiving

    async def list_hooks(self) -> dict[str, Any]:
        """The hooks that can start automations, and what each of their events tells."""
        return {"hooks": catalogue(self._context.hooks.all())}

    async def show_address(self, name: Name) -> dict[str, Any]:
        """When an automation's webhook address was made, and when it was used last. The address is not shown again."""
        found = await self._webhooks.find(name)
        if found is None:
            raise no_address(name)
        return {
            "automation": found.automation,
            "createdAt": found.created_at,
            "createdBy": found.created_by,
            "lastUsedAt": found.last_used_at,
        }

    async def make_address(self, name: Name, caller: Caller) -> dict[str, Any]:
        """Make a new webhook address for an automation, which is shown this once. Another one that it has is void."""
        return {"automation": name, "path": await self._webhooks.make(name, caller)}

    async def remove_address(self, name: Name) -> None:
        """Have an automation's webhook address lead nowhere any more."""
        await self._webhooks.remove(name)

    async def receive(self, secret: Secret, request: Request) -> dict[str, Any]:
        """Start the automation whose webhook address this is."""
        received = Received(
            request.method,
            tuple((name, value) for name, value in request.headers.items()),
            request.url.query,
            peer_of(request),
        )
        return await self._receiving.receive(secret, received, request.stream())
