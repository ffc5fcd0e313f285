"""Automations are tried: what they would do is told, or done.

Threat: somebody reads by it what an event tells, or what an automation says, and may not. Mechanism: who tries an
automation with an event of the log holds the rule that its hook names for that, and who tries one at all may read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ringfence import PluginContext
from ringfence.web import Principal, Problem, require_on

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.by_hand.problems import of_starts, unknown
from ringfence_automations.by_hand.runs import check_enabled
from ringfence_automations.definitions.stored import Automation
from ringfence_automations.definitions.wiring import Definitions
from ringfence_automations.triggers.trying.trying import Happening, Trying


@dataclass(frozen=True, slots=True)
class With:
    """What to try an automation with: the event of the log at `event`, or what its trigger `trigger` may come with.

    `payload` takes the place of the latter's event.
    """

    event: int | None = None
    trigger: int | None = None
    payload: dict[str, Any] | None = None
    inputs: dict[str, Any] = field(default_factory=dict)


class TryingByHand:
    """Tries automations, for whoever may run and read them. All of it raises `Problem`."""

    def __init__(
        self, context: PluginContext, rules: AccessRules, definitions: Definitions, trying: Trying
    ) -> None:
        self._context = context
        self._rules = rules
        self._definitions = definitions
        self._trying = trying

    async def stored(self, name: str, given: With, runner: Principal, *, for_real: bool) -> dict[str, Any]:
        """What the automation of this name would do; or it is done, if it would start."""
        self._check_may(runner)
        with of_starts():
            async with self._context.sessions() as session:
                found = await self._definitions.automations.one(session, name)
            if found is None:
                raise unknown(name)
            if for_real:
                check_enabled(found, "tried for real")
            happening, inputs, told = await self._told(found, given, runner)
            if not for_real or not told["starts"]:
                return told
            return {**told, **await self._trying.done(found, happening, inputs, by=runner.name)}

    async def written(self, found: Automation, given: With, runner: Principal) -> dict[str, Any]:
        """What an automation would do that is not stored."""
        self._check_may(runner)
        with of_starts():
            return (await self._told(found, given, runner))[2]

    def _check_may(self, runner: Principal) -> None:
        require_on(runner, self._rules.run, ())
        require_on(runner, self._rules.read, ())

    async def _told(
        self, found: Automation, given: With, runner: Principal
    ) -> tuple[Happening, dict[str, Any], dict[str, Any]]:
        happening = await self._happening(given, found, runner)
        inputs = found.definition.with_inputs(given.inputs)
        return (
            happening,
            inputs,
            await self._trying.told(found, self._definitions.kinds, happening, inputs),
        )

    async def _happening(self, given: With, found: Automation, runner: Principal) -> Happening:
        if given.event is None:
            return self._trying.made_up(found.definition, given.trigger, given.payload)
        logged = await self._trying.logged(given.event)
        declared = self._context.hooks.find(logged.fact.hook or "")
        rule = None if declared is None else declared.payload_rule
        if rule is not None and not runner.holds(rule):
            hook = logged.fact.hook
            detail = f"{runner.name} does not hold the access rule {rule}, which shows events of {hook}"
            raise Problem(403, detail=detail, rule=rule)
        return logged
