"""What is done by hand, together."""

from __future__ import annotations

from dataclasses import dataclass

from ringfence import PluginContext

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.by_hand.runs import RunsByHand
from ringfence_automations.by_hand.trying import TryingByHand
from ringfence_automations.by_hand.webhooks import Webhooks
from ringfence_automations.by_hand.writing import Writing
from ringfence_automations.definitions.wiring import Definitions
from ringfence_automations.runs.engine import Engine
from ringfence_automations.triggers.wiring import Triggers


@dataclass(frozen=True, slots=True)
class ByHand:
    """All that people do."""

    writing: Writing
    runs: RunsByHand
    trying: TryingByHand
    webhooks: Webhooks


def by_hand(
    context: PluginContext, rules: AccessRules, definitions: Definitions, engine: Engine, triggers: Triggers
) -> ByHand:
    """Put it together."""
    return ByHand(
        Writing(context, rules, definitions, engine),
        RunsByHand(context, definitions.automations, engine),
        TryingByHand(context, rules, definitions, triggers.trying),
        Webhooks(context, triggers.hearing),
    )
