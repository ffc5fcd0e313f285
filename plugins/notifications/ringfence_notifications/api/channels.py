"""Channels over HTTP."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the roles are local names.
from typing import Annotated, Any

from fastapi import Depends, Path, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr
from ringfence.bounded import STORABLE, storable
from ringfence.web import DEFAULT_LISTED, After, Limit, Principal, Problem, Router, page, require
from ringfence_secrets.service import USE, SecretError

from ringfence_notifications.access_rules import AccessRules
from ringfence_notifications.administration.channels import ChannelAdministration, MayNotUseSecretsError
from ringfence_notifications.channels.address import AddressError
from ringfence_notifications.channels.channel import ChannelName, ChannelSettings
from ringfence_notifications.channels.channels import Channels
from ringfence_notifications.delivery.sending import DeliveryError
from ringfence_notifications.service import UnknownChannelError


def _storable(value: SecretStr) -> SecretStr:
    storable(value.get_secret_value())
    return value


class ChannelWritten(BaseModel):
    """A channel as a whole: where its messages go, and what whoever reads it wants."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    address: Annotated[SecretStr, AfterValidator(_storable)]
    settings: ChannelSettings = ChannelSettings()


def build(channels: Channels, administration: ChannelAdministration, rules: AccessRules) -> Router:
    """The routes."""
    router = Router()
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
        address = body.address.get_secret_value()
        try:
            made = await administration.set(name, address, body.settings, by=manager)
        except MayNotUseSecretsError as error:
            raise Problem(403, detail=str(error), rule=USE) from None
        except (AddressError, DeliveryError, SecretError) as error:
            raise Problem(422, "The address cannot be used", detail=str(error)) from None
        return made.to_wire()

    @router.patch("/channels/{name}")
    async def change_channel(name: Name, body: ChannelSettings, manager: Manager) -> dict[str, Any]:
        """Change what is wanted of a channel; what is not said stays."""
        said = {field: getattr(body, field) for field in body.model_fields_set}
        try:
            return (await administration.change(name, said, by=manager.name)).to_wire()
        except UnknownChannelError:
            raise _unknown(name) from None

    @router.delete("/channels/{name}", status_code=204)
    async def remove_channel(name: Name, manager: Manager) -> Response:
        try:
            await administration.remove(name, by=manager.name)
        except UnknownChannelError:
            raise _unknown(name) from None
        return Response(status_code=204)

    @router.post("/channels/{name}/test")
    async def test_channel(name: Name, manager: Manager) -> dict[str, Any]:
        """Send a message now, whatever the channel's quiet hours and its limit, and say what came of it."""
        try:
            error = await administration.test(name, by=manager.name)
        except UnknownChannelError:
            raise _unknown(name) from None
        return {"sent": error is None, "error": error}

    return router


def _unknown(name: str) -> Problem:
    return Problem(404, "No such channel", detail=f"there is no channel {name}")
