"""What triggers bring to the plugin."""

from __future__ import annotations

from ringfence import PluginContext, Registry

from ringfence_automations.definitions.automations import Automations
from ringfence_automations.runs.carrying_out import ActsFor
from ringfence_automations.runs.wiring import Runs
from ringfence_automations.triggers import timetables
from ringfence_automations.triggers.hearing import Hearing
from ringfence_automations.triggers.timetables import Timetables
from ringfence_automations.triggers.trying.trying import Trying
from ringfence_automations.triggers.webhooks.receiving import Receiving


def declare(registry: Registry) -> None:
    """Declare what this room brings."""
    timetables.declare(registry)


class Triggers:
    """What starts runs."""

    def __init__(
        self, context: PluginContext, automations: Automations, acts_for: ActsFor, runs: Runs
    ) -> None:
        self.hearing = Hearing(context, runs.engine, automations, acts_for)
        self.receiving = Receiving(context, self.hearing)
        self.trying = Trying(context, runs.engine)
        self._timetables = Timetables(context, self.hearing)

    async def begin(self) -> None:
        """Take part, once all plugins are ready."""
        self.hearing.begin()
        self._timetables.begin()
