"""The automations plugin: what happens starts runs, and runs carry out steps."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

from ringfence import PluginContext, PluginInfo, Registry, hookimpl
from ringfence.declaring import ObjectKind
from ringfence.metrics import Metric
from ringfence.pages import Pages

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.by_hand.declared import AutomationKind
from ringfence_automations.by_hand.wiring import by_hand as together
from ringfence_automations.definitions import wiring as definitions
from ringfence_automations.pages.declared import pages_of
from ringfence_automations.routes import definitions as definition_routes
from ringfence_automations.routes import runs as run_routes
from ringfence_automations.routes import starting as starting_routes
from ringfence_automations.routes import triggers as trigger_routes
from ringfence_automations.routes import trying as try_routes
from ringfence_automations.runs import wiring as runs
from ringfence_automations.runs.compiling import DefinedPlans
from ringfence_automations.runs.metrics import of_runs
from ringfence_automations.settings import AutomationsSettings
from ringfence_automations.steps import wiring as steps
from ringfence_automations.triggers import wiring as triggers


class AutomationsPlugin:
    """Wires the rooms to the host and to each other: each stands on those before it."""

    info = PluginInfo(
        id="automations",
        version=importlib.metadata.version("ringfence"),
        requires=("script-packages", "satellite", "secrets"),
    )

    _rules: AccessRules
    _context: PluginContext
    _pages: Pages
    rooms: tuple[definitions.Definitions, runs.Runs, steps.Steps, triggers.Triggers]

    @hookimpl
    def settings(self) -> type[AutomationsSettings]:
        """What an operator can set of automations."""
        return AutomationsSettings

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Declare the rules, the hooks, the jobs and the tables."""
        self._rules = AccessRules.declared(registry)
        registry.migrations("ringfence_migrations.automations")
        definitions.declare(registry)
        runs.declare(registry)
        steps.declare(registry)
        triggers.declare(registry)

    @hookimpl
    async def init(self, context: PluginContext) -> None:
        """Build the rooms, with their services and routes."""
        self._context = context
        definitions_room = definitions.Definitions(context)
        plans = DefinedPlans(context, definitions_room)
        settings = context.own_settings(AutomationsSettings)
        runs_room = runs.Runs(
            context,
            plans,
            plans.acts_for,
            keep_seconds=settings.run_retention_seconds,
            most_an_hour=settings.max_runs_per_hour,
            pause=definitions_room.automations.pause,
        )
        engine = runs_room.engine
        triggers_room = triggers.Triggers(context, definitions_room.automations, plans.acts_for, runs_room)
        self.rooms = (
            definitions_room,
            runs_room,
            steps.Steps(
                context, definitions_room, plans.acts_for, runs_room, triggers_room.receiving.leads_here
            ),
            triggers_room,
        )
        rules = self._rules
        context.services.extend(ObjectKind, AutomationKind(context, rules, definitions_room))
        by_hand = together(context, rules, definitions_room, engine, triggers_room)
        context.web.router(definition_routes.build(definitions_room, rules, by_hand.writing))
        context.web.router(run_routes.build(context, rules, by_hand.runs))
        context.web.router(starting_routes.build(context, rules, by_hand.runs))
        trigger_routes.add(context, rules, triggers_room, by_hand.webhooks)
        context.web.router(try_routes.build(rules, by_hand.trying))
        self._pages = pages_of(context, rules, definitions_room, by_hand)

    @hookimpl
    async def metrics(self) -> Sequence[Metric]:
        """How many runs there are."""
        _, runs_room, _, _ = self.rooms
        return await of_runs(self._context, runs_room.engine.ended)

    @hookimpl
    def pages(self) -> Pages:
        """The pages of automations and runs."""
        return self._pages

    @hookimpl
    async def after_plugins_ready(self, context: PluginContext) -> None:
        """Take part."""
        for room in self.rooms:
            await room.begin()
