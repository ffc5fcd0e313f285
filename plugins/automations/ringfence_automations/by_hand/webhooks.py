"""Webhooks' addresses are made, looked at and removed."""

from __future__ import annotations

from ringfence import PluginContext
from ringfence.web import Principal, Problem

from ringfence_automations.definitions.trigger import TriggerKind
from ringfence_automations.triggers.hearing import Hearing
from ringfence_automations.triggers.webhooks import addresses
from ringfence_automations.triggers.webhooks.addresses import WebhookAddress

PATH = "/api/automations/hooks"


class Webhooks:
    """The addresses, for whoever may see or make them. All of it raises `Problem`."""

    def __init__(self, context: PluginContext, hearing: Hearing) -> None:
        self._context = context
        self._hearing = hearing

    async def find(self, name: str) -> WebhookAddress | None:
        """What is known of an automation's address."""
        async with self._context.sessions.begin() as session:
            return await addresses.one(session, name)

    async def make(self, name: str, by: Principal) -> str:
        """The path of a new address for an automation, which is shown this once. Another one that it has is void."""
        armed = await self._hearing.armed(name)
        if armed is None:
            raise Problem(404, detail=f"there is no automation {name} that is enabled")
        if not armed.of_kind(TriggerKind.WEBHOOK):
            raise Problem(409, detail=f"{name} has no webhook among its triggers: add `- webhook: true`")
        async with self._context.sessions.begin() as session:
            secret = await addresses.make(session, name, by=by.name)
        return f"{PATH}/{secret}"

    async def remove(self, name: str) -> None:
        """Have an automation's address lead nowhere any more."""
        async with self._context.sessions.begin() as session:
            if not await addresses.remove(session, name):
                raise no_address(name)


def no_address(name: str) -> Problem:
    """The automation has no address."""
    return Problem(
        404, detail=f"{name} has no webhook address: make one with `ringfence automation webhook {name}`"
    )
