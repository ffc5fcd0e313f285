"""What definitions bring to the plugin."""

from __future__ import annotations

from ringfence import PluginContext, Registry

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.hooks import automation_changed


def declare(registry: Registry) -> None:
    """Declare what this room brings."""
    registry.hook(automation_changed)


class Definitions:
    """The automations as they are written, and whom each acts for."""

    def __init__(self, context: PluginContext, rules: AccessRules) -> None:
        self._context = context
        self._rules = rules

    async def begin(self) -> None:
        """Take part, once all plugins are ready."""

    async def drain(self) -> None:
        """Take nothing new: the instance is about to stop."""
