"""What runs bring to the plugin."""

from __future__ import annotations

from ringfence import PluginContext, Registry

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.definitions.wiring import Definitions


def declare(registry: Registry) -> None:
    """Declare what this room brings."""


class Runs:
    """The runs of automations, and the engine that carries them on."""

    def __init__(self, context: PluginContext, rules: AccessRules, definitions: Definitions) -> None:
        self._context = context
        self._rules = rules
        self._definitions = definitions

    async def begin(self) -> None:
        """Take part, once all plugins are ready."""

    async def drain(self) -> None:
        """Take nothing new: the instance is about to stop."""
