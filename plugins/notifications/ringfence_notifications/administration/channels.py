"""What administrators do with channels, for the API and the pages alike: checked first, then written and told."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from ringfence import PluginContext
from ringfence.declaring import Held
from ringfence.web import Principal
from ringfence_secrets.service import USE, SecretError

from ringfence_notifications.channels.address import kind_of, secret_names
from ringfence_notifications.channels.channel import Channel, ChannelSettings
from ringfence_notifications.channels.channels import Channels
from ringfence_notifications.delivery.sending import DeliveryError, Outgoing, check, send
from ringfence_notifications.service import UnknownChannelError


class MayNotUseSecretsError(PermissionError):
    """An address refers to secrets, and whoever writes it may not have them given; the message says which rule."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} does not hold the access rule {USE}, which an address with secrets needs")


class ChannelAdministration:
    """Writes channels."""

    def __init__(self, context: PluginContext, channels: Channels) -> None:
        self._context = context
        self._channels = channels

    async def held(self, name: str) -> Held | None:
        """Whether it is changed elsewhere alone."""
        return await self._channels.held(name)

    async def one(self, name: str) -> Channel:
        """The channel of a name, as the database has it. Raises `UnknownChannelError`."""
        found = {one.name: one for one in await self._channels.listed()}.get(name)
        if found is None:
            raise UnknownChannelError(name)
        return found

    async def set(
        self,
        name: str,
        address: str,
        settings: ChannelSettings | None,
        *,
        is_new: bool = False,
        by: Principal,
    ) -> Channel:
        """Add a channel, or give one another address and other settings; None: those that it has.

        Raises:
            ChannelTakenError: if it `is_new`, and there is one of its name.
            AddressError, DeliveryError, SecretError: if the address cannot be used. None of them holds it.
            MayNotUseSecretsError: if it refers to secrets, which `by` may not use.
        """
        address = address.strip()
        kind_of(address)
        if secret_names(address) and not by.holds(USE):
            raise MayNotUseSecretsError(by.name)
        await check(await self._channels.with_secrets(address))
        if settings is None:
            before = {one.name: one.settings for one in await self._channels.listed()}
            settings = before.get(name) or ChannelSettings()
        async with self._context.sessions.begin() as session:
            await self._channels.set(session, name, address, settings, is_new=is_new, by=by.name)
        self._channels.forget_copy()
        return await self.one(name)

    async def change(
        self,
        name: str,
        said: Mapping[str, Any],
        *,
        check: Callable[[ChannelSettings], None] | None = None,
        by: str,
    ) -> Channel:
        """Change what is wanted of a channel; what is not `said` stays. Raises `UnknownChannelError`.

        What `check` raises of its settings until then leaves it as it is.
        """
        is_changed = False
        while not is_changed:
            # Somebody else may be faster: then it is looked at again.
            before = await self.one(name)
            if check is not None:
                check(before.settings)
            wanted = before.settings.model_copy(update=said)
            async with self._context.sessions.begin() as session:
                is_changed = await self._channels.change(session, before, wanted, by=by)
        self._channels.forget_copy()
        return await self.one(name)

    async def remove(self, name: str, *, by: str) -> None:
        """Remove a channel and its address. Raises `UnknownChannelError`."""
        async with self._context.sessions.begin() as session:
            if not await self._channels.remove(session, name, by=by):
                raise UnknownChannelError(name)
        self._channels.forget_copy()

    async def test(self, name: str, *, by: str) -> str | None:
        """Send a message now, whatever the quiet hours and the limit; answers what is wrong, or None if it was taken.

        Raises `UnknownChannelError`.
        """
        await self.one(name)
        text = f"{by} tries whether messages of Ringfence arrive here. They do."
        message = Outgoing(uuid.uuid4(), "Ringfence: a test", text, "info")
        try:
            await send(await self._channels.address(name), message)
        except (DeliveryError, SecretError) as error:
            return str(error)
        return None
