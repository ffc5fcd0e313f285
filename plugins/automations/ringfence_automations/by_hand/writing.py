"""Automations are written, enabled, disabled and deleted."""

from __future__ import annotations

import asyncio

from ringfence import PluginContext
from ringfence.declaring import refuse_if_held
from ringfence.documents.reading import Finding, NotReadableError
from ringfence.web import Principal, require_on

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.by_hand.problems import of_definitions, unknown
from ringfence_automations.definitions.applying import Applied
from ringfence_automations.definitions.automations import KIND, Written
from ringfence_automations.definitions.reading.accepting import Accepted
from ringfence_automations.definitions.stored import Automation
from ringfence_automations.definitions.wiring import Definitions
from ringfence_automations.runs.engine import Engine


class Writing:
    """Changes automations for whoever may. All of it raises `Problem`."""

    def __init__(
        self, context: PluginContext, rules: AccessRules, definitions: Definitions, engine: Engine
    ) -> None:
        self._context = context
        self._rules = rules
        self._definitions = definitions
        self._engine = engine

    async def one(self, name: str) -> Automation:
        """The automation of this name."""
        with of_definitions():
            async with self._context.sessions() as session:
                found = await self._definitions.automations.one(session, name)
        if found is None:
            raise unknown(name)
        return found

    async def apply(
        self,
        text: str,
        by: Principal,
        *,
        reason: str | None,
        only_tell: bool,
        name: str | None = None,
        expected: int | None,
    ) -> list[Applied]:
        """Have the definitions of a text hold; with a `name`, it has one definition, of that name."""
        applying = self._definitions.applying
        with of_definitions():
            # Reading a large one takes a moment, in which others are answered.
            accepted = await asyncio.to_thread(applying.accepted, text)
            if name is not None:
                _check_is_named(accepted, name)
            return await applying.apply(accepted, by, reason=reason, expected=expected, only_tell=only_tell)

    async def switch(
        self,
        name: str,
        enabled: bool,
        by: Principal,
        *,
        reason: str | None = None,
        expected: int | None = None,
        cancel_runs: bool = False,
    ) -> Written:
        """Enable or disable an automation; its runs go on, unless they are to be cancelled."""
        self._check_may_cancel(by, cancel_runs)
        automations = self._definitions.automations
        with of_definitions():
            async with self._context.sessions.begin() as session:
                await automations.turn(session)
                before = await automations.one(session, name)
                # To resume what the host has paused is no change of what is declared.
                if not enabled or before is None or before.paused is None:
                    await refuse_if_held(self._context, session, KIND, name)
                written = await automations.enable(
                    session, name, enabled, by=by.name, reason=reason, expected=expected
                )
                if cancel_runs:
                    why = "the automation was disabled"
                    await self._engine.cancel_all(session, name, by=by.name, why=why)
        if written is None:
            raise unknown(name)
        return written

    async def delete(
        self,
        name: str,
        by: Principal,
        *,
        reason: str | None = None,
        expected: int | None = None,
        cancel_runs: bool = False,
    ) -> None:
        """Delete an automation; its runs go on, unless they are to be cancelled."""
        self._check_may_cancel(by, cancel_runs)
        automations = self._definitions.automations
        with of_definitions():
            async with self._context.sessions.begin() as session:
                await automations.turn(session)
                if not await automations.delete(session, name, by=by.name, reason=reason, expected=expected):
                    raise unknown(name)
                if cancel_runs:
                    why = "the automation was deleted"
                    await self._engine.cancel_all(session, name, by=by.name, why=why)

    def _check_may_cancel(self, by: Principal, wanted: bool) -> None:
        if wanted:
            require_on(by, self._rules.run, ())


def _check_is_named(accepted: list[Accepted], name: str) -> None:
    if len(accepted) != 1:
        raise NotReadableError([Finding(1, 1, "", "there must be one definition")])
    if accepted[0].definition.name != name:
        raise NotReadableError(
            [accepted[0].finding(("name",), f"the name must be {name}, as in the address")]
        )
