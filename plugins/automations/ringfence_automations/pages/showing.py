"""One automation: what it does, how it does, its revisions, and what can be done with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ringfence import PluginContext
from ringfence.documents.differing import differences
from ringfence.pages import Again, Redirect, View
from ringfence.web import Problem, number_of, page

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.by_hand.wiring import ByHand
from ringfence_automations.definitions.automations import Told
from ringfence_automations.definitions.definition import Definition
from ringfence_automations.definitions.reading.written import as_yaml
from ringfence_automations.definitions.stored import Automation
from ringfence_automations.definitions.trigger import TriggerKind
from ringfence_automations.definitions.wiring import Definitions
from ringfence_automations.pages.inputs import WrongInputsError, fields, read
from ringfence_automations.pages.listing import last_of
from ringfence_automations.pages.names import check_reads, name_in
from ringfence_automations.pages.picture import drawn
from ringfence_automations.pages.runs import row_of
from ringfence_automations.pages.words import triggers_in_words
from ringfence_automations.runs.tables import runs_table, seen

MOST_RUNS = 10
MOST_REVISIONS = 30
MOST_DIFFERENCES = 30
_LONGEST_REASON = 500


class Showing:
    """Shows an automation, and does what is asked of it there."""

    def __init__(
        self, context: PluginContext, rules: AccessRules, definitions: Definitions, by_hand: ByHand
    ) -> None:
        self._context = context
        self._rules = rules
        self._definitions = definitions
        self._by_hand = by_hand

    async def show(self, view: View) -> Mapping[str, Any]:
        """The page."""
        return await self._shown(view, await self._by_hand.writing.one(name_in(view)))

    async def _shown(
        self,
        view: View,
        found: Automation,
        *,
        written: Mapping[str, str] | None = None,
        errors: Mapping[str, str] | None = None,
        error: str | None = None,
        address: str | None = None,
    ) -> dict[str, Any]:
        definition = found.definition
        has_webhook = any(one.kind is TriggerKind.WEBHOOK for one in definition.triggers)
        async with self._context.sessions() as session:
            listed = await seen.one(session, found.name)
            runs = await runs_table.listed(
                session, automation=found.name, status=None, key=None, before=None, limit=MOST_RUNS
            )
        return {
            "named": found.name,
            "name": found.name,
            "found": found,
            "description": definition.description,
            "enabled": definition.enabled,
            "triggers": triggers_in_words(definition.to_wire().get("triggers", [])),
            "conditions": definition.conditions,
            "mode": definition.mode.value,
            "most": definition.max if definition.mode.value == "parallel" else None,
            "key": definition.concurrency_key,
            "steps": drawn(definition.steps),
            "text": as_yaml(definition),
            "runs": [row_of(one) for one in runs],
            "inputs": fields(definition, written, errors),
            "error": error,
            "has_webhook": has_webhook,
            "webhook": await self._by_hand.webhooks.find(found.name) if has_webhook else None,
            "address": address,
            "may_manage": view.may(self._rules.manage),
            "may_run": view.may(self._rules.run),
            **({"last": None, "running": 0, "waiting": 0} if listed is None else last_of(listed)),
        }

    async def history(self, view: View) -> Mapping[str, Any]:
        """Its revisions, each with what it has changed; also of one that is deleted."""
        name = name_in(view)
        before = 2**62 if view.after is None else number_of(view.after)
        # One more than there is on a page, to tell what the last one has changed, too.
        found = await self._definitions.automations.history(name, before=before, limit=MOST_REVISIONS + 1)
        if not found and view.after is None:
            raise Problem(404, "No such automation", detail=f"there is no automation {name}")
        newest = await self._definitions.automations.history(name, before=2**62, limit=1)
        listed = page(found, MOST_REVISIONS, lambda one: str(one.revision))
        earlier: list[Told | None] = [*found[1:], None]
        return {
            "name": name,
            "revisions": [
                _revision(one, before) for one, before in zip(listed.entries, earlier, strict=False)
            ],
            "next": listed.next,
            "may_manage": view.may(self._rules.manage),
            "current": newest[0].revision if newest and newest[0].change.value != "deleted" else None,
        }

    async def run(self, view: View) -> Redirect | Again:
        """Start it by hand."""
        check_reads(view, self._rules)
        found = await self._by_hand.writing.one(name_in(view))
        errors: Mapping[str, str] = {}
        try:
            inputs = read(found.definition, view.form)
            run = await self._by_hand.runs.start(found.name, inputs, view.principal)
            return Redirect(f"/runs/{run}", f"{found.name} is started.")
        except WrongInputsError as wrong:
            error, status, errors = "It was not started: some inputs are not valid.", 422, wrong.errors
        except Problem as problem:
            if problem.status not in (409, 422):
                raise
            error, status = f"It was not started: {problem.detail}.", problem.status
        shown = await self._shown(view, found, written=view.form, errors=errors, error=error)
        return Again("automation.html", shown, status)

    async def enable(self, view: View) -> Redirect | Again:
        """Let it be started again."""
        return await self._switched(view, True)

    async def disable(self, view: View) -> Redirect | Again:
        """Have it started by nothing."""
        return await self._switched(view, False)

    async def _switched(self, view: View, enabled: bool) -> Redirect:
        name = name_in(view)
        await self._by_hand.writing.switch(
            name, enabled, view.principal, reason=reason_in(view), cancel_runs=_cancels(view)
        )
        return Redirect(f"/automations/{name}", f"{name} is {'enabled' if enabled else 'disabled'}.")

    async def delete(self, view: View) -> Redirect | Again:
        """Delete it."""
        name = name_in(view)
        await self._by_hand.writing.delete(
            name, view.principal, reason=reason_in(view), cancel_runs=_cancels(view)
        )
        return Redirect("/automations", f"{name} is deleted.")

    async def make_address(self, view: View) -> Redirect | Again:
        """Make a new webhook address, which is shown this once."""
        check_reads(view, self._rules)
        found = await self._by_hand.writing.one(name_in(view))
        address = await self._by_hand.webhooks.make(found.name, view.principal)
        return Again("automation.html", await self._shown(view, found, address=address), 201)

    async def remove_address(self, view: View) -> Redirect | Again:
        """Have its webhook address lead nowhere any more."""
        name = name_in(view)
        await self._by_hand.webhooks.remove(name)
        return Redirect(f"/automations/{name}", "The webhook address is removed.")


def reason_in(view: View) -> str | None:
    """Why, as it was written into a form."""
    return view.form.get("reason", "").strip()[:_LONGEST_REASON] or None


def _cancels(view: View) -> bool:
    return view.form.get("cancel") == "yes"


def _revision(one: Told, before: Told | None) -> dict[str, Any]:
    changed = [] if before is None or one.change.value != "updated" else _changes(before, one)
    return {
        "revision": one.revision,
        "change": one.change.value,
        "by": one.by,
        "at": one.at,
        "reason": one.reason,
        "acts_for": one.acts_for,
        "changes": changed[:MOST_DIFFERENCES],
        "more": len(changed) - MOST_DIFFERENCES,
        "text": text_of(one.definition),
    }


def _changes(before: Told, after: Told) -> list[str]:
    found = [str(one) for one in differences(before.definition, after.definition)]
    if before.acts_for != after.acts_for:
        found.append(f"~ acts for: {before.acts_for} → {after.acts_for}")
    return found


def text_of(document: Mapping[str, Any]) -> Any:
    """A stored definition as it is written; as it is stored, where this release cannot read it."""
    try:
        return as_yaml(Definition.model_validate(document))
    except ValueError:
        return document
