"""What definitions bring to the plugin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property

from pydantic import BaseModel
from ringfence import Event, Mode, PluginContext, Registry
from ringfence.eventlog import EventLogResumed, event_log_resumed
from ringfence.web import Principal
from ringfence_secrets.service import SecretUser
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.bodies import BUILT_IN_MODELS
from ringfence_automations.definitions.applying import Applying
from ringfence_automations.definitions.automations import Automations, UnreadableAutomationError
from ringfence_automations.definitions.permissions import NotActingError, Permissions
from ringfence_automations.definitions.scopes import Schemas
from ringfence_automations.definitions.stored import Automation, Revision
from ringfence_automations.hooks import AutomationChange, AutomationChanged, automation_changed


def declare(registry: Registry) -> None:
    """Declare what this room brings."""
    registry.hook(automation_changed)


class Definitions:
    """The automations as they are written, and whom each acts for."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self.automations = Automations(context)
        self.kinds: Mapping[str, type[BaseModel]] = BUILT_IN_MODELS
        self.applying = Applying(
            context, self.automations, Permissions(context), lambda: self.schemas, lambda: self.kinds
        )
        self._copy = context.replica(self._load)
        context.services.extend(SecretUser, self)

    @cached_property
    def schemas(self) -> Schemas:
        """The schemas of events. Once all plugins are ready."""
        return Schemas(self._context.hooks)

    def know_kinds(self, models: Mapping[str, type[BaseModel]]) -> None:
        """These kinds of actions there are beside the built-in ones, each with the model of its body."""
        self.kinds = {**models, **BUILT_IN_MODELS}

    async def begin(self) -> None:
        """Take part, once all plugins are ready."""
        self._context.on_hook(automation_changed, self._changed)
        self._context.on_hook(event_log_resumed, self._resumed, mode=Mode.INSTANCE_LOCAL)

    async def current(self) -> Mapping[str, Automation]:
        """All automations by name: those that this instance knows of while it follows the event log, or reads."""
        return await self._copy.current()

    async def at(self, session: AsyncSession, name: str, revision: int) -> Revision | None:
        """A revision, also of an automation that is deleted. Raises `UnreadableAutomationError`."""
        return await self.automations.at(session, name, revision)

    async def acting_for(self, revision: Revision) -> Principal:
        """Whom a revision acts for, with the rules that they hold now. Raises `NotActingError`."""
        principal = await self._context.access.principal(revision.token)
        if principal is None:
            raise NotActingError(revision.name, revision.acts_for)
        return principal

    async def using(self, name: str) -> Sequence[str]:
        """See `SecretUser`."""
        found = await self.current()
        return [f"automation {one.name}" for one in found.values() if name in one.secrets(self.kinds)]

    async def used(self) -> Mapping[str, int]:
        """See `SecretUser`."""
        found = await self.current()
        return Counter(name for one in found.values() for name in one.secrets(self.kinds))

    async def _load(self) -> Mapping[str, Automation]:
        async with self._context.sessions() as session:
            return {one.name: one for one in await self.automations.all(session)}

    async def _one(self, name: str) -> Automation | None:
        async with self._context.sessions() as session:
            try:
                return await self.automations.one(session, name)
            except UnreadableAutomationError:
                return None

    async def _changed(self, event: Event[AutomationChanged]) -> None:
        name = event.payload.name

        async def apply(copy: Mapping[str, Automation] | None) -> Mapping[str, Automation] | None:
            if copy is None:
                return None
            others = {key: one for key, one in copy.items() if key != name}
            if event.payload.change is AutomationChange.DELETED:
                return others
            found = await self._one(name)
            return others if found is None else {**others, name: found}

        await self._copy.change(apply)

    async def _resumed(self, event: Event[EventLogResumed]) -> None:
        if event.payload.set_back:
            self.automations.forget()
