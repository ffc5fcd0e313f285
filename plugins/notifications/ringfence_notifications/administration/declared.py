"""Channels and routes as documents declare them. Addresses are in no document: a channel names a secret that is one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints, ValidationError
from ringfence.declaring import ObjectKind, Stored, Work, WrongDocumentError, checked, findings
from ringfence.documents.reading import Document, Finding, NotReadableError
from ringfence.web import Problem
from ringfence_secrets.service import USE, SecretError

from ringfence_notifications.administration.channels import ChannelAdministration, MayNotUseSecretsError
from ringfence_notifications.administration.routes import (
    BuiltInRouteError,
    MayNotSeeError,
    RouteAdministration,
)
from ringfence_notifications.channels import channels
from ringfence_notifications.channels.address import AddressError
from ringfence_notifications.channels.channel import ChannelSettings, is_channel_name
from ringfence_notifications.channels.channels import Channels
from ringfence_notifications.delivery.sending import DeliveryError
from ringfence_notifications.incidents.incidents import Incidents
from ringfence_notifications.routing import routes
from ringfence_notifications.routing.compiled import RouteError
from ringfence_notifications.routing.route import Route
from ringfence_notifications.routing.routes import Routes

_NAMED = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"
_FIELD = re.compile(r"^[A-Za-z_]+$")


class ChannelSpec(ChannelSettings):
    """A channel: the secret that holds its whole address, and what whoever reads it wants.

    Without `addressSecret` the address stays that it has.
    """

    address_secret: Annotated[str, StringConstraints(pattern=_NAMED)] | None = Field(default=None)


class ChannelKind(ObjectKind[ChannelSpec]):
    """Channels."""

    kind: ClassVar[str] = channels.KIND
    what: ClassVar[str] = "A way to reach people; its address is a secret"
    spec = ChannelSpec
    order: ClassVar[int] = 40

    def check(self, name: str, spec: Document) -> ChannelSpec:
        """See `ObjectKind`."""
        if not is_channel_name(name):
            what = "a channel's name is of a-z, 0-9, - and _, with at most 63 characters"
            raise NotReadableError([Finding(*spec.place(()), "metadata.name", what)])
        if isinstance(spec.value, dict) and "address" in spec.value:
            what = "an address is no part of a file: keep it as a secret, and name that in addressSecret"
            raise NotReadableError([Finding(*spec.place(("address",), at_key=True), "spec.address", what)])
        return checked(ChannelSpec, spec)

    async def names(self, work: Work) -> Sequence[str]:
        """See `ObjectKind`."""
        return [one.name for one in await self._channels(work).listed()]

    async def read(self, work: Work, name: str) -> Stored | None:
        """See `ObjectKind`."""
        for one in await self._channels(work).listed():
            if one.name == name:
                break
        else:
            return None
        spec = one.settings.model_dump(mode="json", by_alias=True, exclude_none=True)
        if one.kind == "secret":
            return Stored({"addressSecret": one.secret_names[0], **spec})
        what = f"Its address ({one.kind}://…) stays on the host, and is not exported: see addressSecret."
        return Stored(spec, notes=[what])

    async def write(
        self, work: Work, name: str, labels: Mapping[str, str], spec: Any, before: Stored | None
    ) -> Sequence[str]:
        """See `ObjectKind`."""
        administration = self._administration(work)
        said = {field: getattr(spec, field) for field in ChannelSettings.model_fields}
        secret = spec.address_secret
        if before is not None and secret in (None, before.spec.get("addressSecret")):
            await administration.change(name, said, by=work.by.name)
            return []
        if secret is None:
            raise WrongDocumentError("there is no such channel yet: name the secret that holds its address")
        address = f"{{{{ secrets.{secret} }}}}"
        try:
            await administration.set(name, address, ChannelSettings(**said), by=work.by)
        except MayNotUseSecretsError as error:
            raise Problem(403, detail=str(error), rule=USE) from None
        except (AddressError, DeliveryError, SecretError) as error:
            raise WrongDocumentError(f"the address cannot be used: {error}", "addressSecret") from None
        return []

    async def delete(self, work: Work, name: str, before: Stored) -> None:
        """See `ObjectKind`."""
        await self._administration(work).remove(name, by=work.by.name)

    def _channels(self, work: Work) -> Channels:
        return Channels(work.joined(self.context))

    def _administration(self, work: Work) -> ChannelAdministration:
        context = work.joined(self.context)
        return ChannelAdministration(context, Channels(context))


class RouteKind(ObjectKind[Route]):
    """Routes that people have written, also in the place of one that comes with a plugin."""

    kind: ClassVar[str] = routes.KIND
    what: ClassVar[str] = "Which events are told, to whom, and in which words"
    spec = Route
    order: ClassVar[int] = 50
    durations: ClassVar = (("windowSeconds",), ("repeatSeconds",), ("againSeconds",))

    def schema(self) -> dict[str, Any]:
        """See `ObjectKind`."""
        schema = super().schema()
        del schema["properties"]["name"]
        schema["required"] = [one for one in schema["required"] if one != "name"]
        return schema

    def check(self, name: str, spec: Document) -> dict[str, Any]:
        """See `ObjectKind`."""
        if not isinstance(spec.value, dict):
            raise NotReadableError([Finding(*spec.place(()), "spec", "this must be a map")])
        if "name" in spec.value:
            place = spec.place(("name",), at_key=True)
            raise NotReadableError([Finding(*place, "spec.name", "the name is in metadata")])
        said = {**spec.value, "name": name}
        try:
            Route.model_validate(said)
        except ValidationError as error:
            raise NotReadableError(findings(error, spec, Route)) from None
        return said

    async def names(self, work: Work) -> Sequence[str]:
        """See `ObjectKind`."""
        found = await Routes(work.joined(self.context)).listed()
        return sorted(name for name, one in found.items() if one.is_own)

    async def read(self, work: Work, name: str) -> Stored | None:
        """See `ObjectKind`."""
        found = (await Routes(work.joined(self.context)).listed()).get(name)
        if found is None or not found.is_own:
            return None
        spec = found.route.model_dump(mode="json", by_alias=True, exclude_none=True)
        return Stored({key: value for key, value in spec.items() if key != "name"})

    async def write(
        self, work: Work, name: str, labels: Mapping[str, str], spec: Any, before: Stored | None
    ) -> Sequence[str]:
        """See `ObjectKind`."""
        try:
            await self._administration(work).set(spec, is_change=False, by=work.by)
        except RouteError as error:
            field = str(error).partition(":")[0]
            raise WrongDocumentError(str(error), *([field] if _FIELD.fullmatch(field) else [])) from None
        except MayNotSeeError as error:
            raise Problem(403, detail=str(error), rule=error.rule) from None
        return []

    async def delete(self, work: Work, name: str, before: Stored) -> None:
        """See `ObjectKind`."""
        try:
            await self._administration(work).remove(name, by=work.by.name)
        except BuiltInRouteError as error:
            raise Problem(409, detail=str(error)) from error

    def _administration(self, work: Work) -> RouteAdministration:
        context = work.joined(self.context)
        return RouteAdministration(context, Routes(context), Channels(context), Incidents(context))
