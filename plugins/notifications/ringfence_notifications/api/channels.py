"""Channels over HTTP."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the roles are local names.
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr
from ringfence import PluginContext
from ringfence.bounded import STORABLE, storable
from ringfence.web import DEFAULT_LISTED, After, Limit, Principal, Problem, page, require
from ringfence_secrets.service import USE, SecretError

from ringfence_notifications.access_rules import AccessRules
from ringfence_notifications.channels.address import AddressError, kind_of, secret_names
from ringfence_notifications.channels.channel import ChannelName, ChannelSettings
from ringfence_notifications.channels.channels import Channels
from ringfence_notifications.delivery.sending import DeliveryError, Outgoing, check, send


def _storable(value: SecretStr) -> SecretStr:
    storable(value.get_secret_value())
    return value


class ChannelWritten(BaseModel):
    """A channel as a whole: where its messages go, and what whoever reads it wants."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    address: Annotated[SecretStr, AfterValidator(_storable)]
    settings: ChannelSettings = ChannelSettings()


def build(context: PluginContext, channels: Channels, rules: AccessRules) -> APIRouter:
    """The routes."""
    router = APIRouter()
    Manager = Annotated[Principal, Depends(require(rules.manage))]
    Reader = Annotated[Principal, Depends(require(rules.read))]
    Name = Annotated[str, Path(max_length=64), STORABLE]

    @router.get("/channels")
    async def list_channels(_: Reader, after: After = None, limit: Limit = DEFAULT_LISTED) -> dict[str, Any]:
        rest = [one for one in await channels.listed() if after is None or one.name > after]
        listed = page(rest[: limit + 1], limit, lambda one: one.name)
        return {"channels": [one.to_wire() for one in listed.entries], "next": listed.next}

    @router.put("/channels/{name}")
    async def set_channel(name: ChannelName, body: ChannelWritten, manager: Manager) -> dict[str, Any]:
        address = body.address.get_secret_value().strip()
        try:
            kind_of(address)
            if secret_names(address) and not manager.holds(USE):
                raise Problem(
                    403,
                    detail=f"{manager.name} does not hold the access rule {USE}, which an address with secrets needs",
                    rule=USE,
                )
            await check(await channels.with_secrets(address))
            async with context.sessions.begin() as session:
                await channels.set(session, name, address, body.settings, by=manager.name)
            channels.forget_copy()
        except (AddressError, DeliveryError, SecretError) as error:
            raise Problem(422, "The address cannot be used", detail=str(error)) from None
        return await _one(name)

    @router.patch("/channels/{name}")
    async def change_channel(name: Name, body: ChannelSettings, manager: Manager) -> dict[str, Any]:
        """Change what is wanted of a channel; what is not said stays."""
        async with context.sessions.begin() as session:
            before = {one.name: one.settings for one in await channels.listed()}.get(name)
            if before is None:
                raise _unknown(name)
            wanted = before.model_copy(
                update={field: getattr(body, field) for field in body.model_fields_set}
            )
            await channels.change(session, name, wanted, by=manager.name)
        channels.forget_copy()
        return await _one(name)

    @router.delete("/channels/{name}", status_code=204)
    async def remove_channel(name: Name, manager: Manager) -> Response:
        async with context.sessions.begin() as session:
            if not await channels.remove(session, name, by=manager.name):
                raise _unknown(name)
        channels.forget_copy()
        return Response(status_code=204)

    @router.post("/channels/{name}/test")
    async def test_channel(name: Name, manager: Manager) -> dict[str, Any]:
        """Send a message now, whatever the channel's quiet hours and its limit, and say what came of it."""
        if name not in {one.name for one in await channels.listed()}:
            raise _unknown(name)
        text = f"{manager.name} tries whether messages of Ringfence arrive here. They do."
        message = Outgoing(uuid.uuid4(), "Ringfence: a test", text, "info")
        try:
            await send(await channels.address(name), message)
        except (DeliveryError, SecretError) as error:
            return {"sent": False, "error": str(error)}
        return {"sent": True, "error": None}

    async def _one(name: str) -> dict[str, Any]:
        found = {one.name: one for one in await channels.listed()}.get(name)
        if found is None:
            raise _unknown(name)
        return found.to_wire()

    return router


def _unknown(name: str) -> Problem:
    return Problem(404, "No such channel", detail=f"there is no channel {name}")
