"""All pages of automations, with what each of them may be asked by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from ringfence import AccessRule, PluginContext
from ringfence.declaring import Held, held
from ringfence.pages import Action, Command, Data, Page, Pages, Panel, View

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.by_hand.wiring import ByHand
from ringfence_automations.definitions.automations import KIND
from ringfence_automations.definitions.wiring import Definitions
from ringfence_automations.hooks import automation_changed, automation_run_finished, automation_run_started
from ringfence_automations.pages.editing import SCHEMA, Editing
from ringfence_automations.pages.listing import Listing
from ringfence_automations.pages.noticing import Noticing
from ringfence_automations.pages.panels import STATE_CHANGED, Panels
from ringfence_automations.pages.runs import ONE, Runs
from ringfence_automations.pages.showing import Showing

Show: TypeAlias = Callable[[View], Awaitable[Mapping[str, Any]]]
RUNS = (automation_run_started.name, automation_run_finished.name)
ALL = (automation_changed.name, *RUNS)
GROUP = "Automation"


def pages_of(context: PluginContext, rules: AccessRules, definitions: Definitions, by_hand: ByHand) -> Pages:
    """Name them."""
    listing = Listing(context, rules)
    showing = Showing(context, rules, definitions, by_hand)
    editing = Editing(context, rules, definitions, by_hand)
    runs = Runs(context, rules, definitions, by_hand)
    panels = Panels(context, definitions)
    noticing = Noticing(context, rules)

    async def is_held(view: View) -> Held | None:
        name = view.parameters.get("name")
        return None if name is None else await held(context, KIND, name)

    return Pages(
        package="ringfence_automations.pages",
        pages=[
            Page(
                path="/automations",
                title="Automations",
                template="automations.html",
                show=listing.show,
                rule=rules.read,
                group=GROUP,
                order=40,
                live=ALL,
            ),
            _page("/automations/new", "New automation", "edit-automation.html", editing.new, rules.manage),
            Page(
                path="/automations/{name}",
                title="Automation",
                template="automation.html",
                show=showing.show,
                rule=rules.read,
                live=ALL,
                held=is_held,
            ),
            Page(
                path="/automations/{name}/edit",
                title="Edit an automation",
                template="edit-automation.html",
                show=editing.edit,
                rule=rules.manage,
                held=is_held,
            ),
            _page(
                "/automations/{name}/history",
                "History of an automation",
                "automation-history.html",
                showing.history,
                rules.read,
            ),
            _page(
                "/automations/{name}/try",
                "Try an automation",
                "try-automation.html",
                editing.trying,
                rules.run,
            ),
            Page(
                path="/runs",
                title="Runs",
                template="runs.html",
                show=runs.listed,
                rule=rules.read,
                group=GROUP,
                order=41,
                live=RUNS,
            ),
            Page(path=ONE, title="Run", template="run.html", show=runs.show, rule=rules.read, live=RUNS),
            _page("/runs/{id}/steps/{number}", "Step of a run", "step.html", runs.step, rules.read),
        ],
        panels=[
            Panel(
                name="automations",
                on="/checks/{id}",
                title="Automations",
                template="of-check.html",
                show=panels.of_check,
                rule=rules.read,
                order=60,
                live=(automation_changed.name, STATE_CHANGED),
            ),
            Panel(
                name="steps",
                on="/satellites/{id}",
                title="Steps of automations",
                template="on-satellite.html",
                show=panels.on_satellite,
                rule=rules.read,
                order=60,
                live=RUNS,
            ),
        ],
        actions=[
            Action(path="/automations/new", title="New automation", do=editing.made, rule=rules.manage),
            Action(
                path="/automations/{name}/edit",
                title="Edit an automation",
                do=editing.edited,
                rule=rules.manage,
            ),
            Action(
                path="/automations/{name}/try", title="Try an automation", do=editing.tried, rule=rules.run
            ),
            Action(path="/automations/{name}/run", title="Run an automation", do=showing.run, rule=rules.run),
            Action(path="/automations/{name}/enable", title="Enable", do=showing.enable, rule=rules.manage),
            Action(
                path="/automations/{name}/disable", title="Disable", do=showing.disable, rule=rules.manage
            ),
            Action(path="/automations/{name}/delete", title="Delete", do=showing.delete, rule=rules.manage),
            Action(
                path="/automations/{name}/webhook",
                title="Webhook address",
                do=showing.make_address,
                rule=rules.manage,
            ),
            Action(
                path="/automations/{name}/webhook/remove",
                title="Webhook address",
                do=showing.remove_address,
                rule=rules.manage,
            ),
            Action(path="/runs/{id}/cancel", title="Cancel a run", do=runs.cancel, rule=rules.run),
            Action(path="/runs/{id}/again", title="Start again", do=runs.start_again, rule=rules.run),
        ],
        data=[Data(path=SCHEMA, answer=editing.schema, rule=rules.read)],
        commands=[
            Command("Write an automation", "/automations/new", rule=rules.manage),
            Command("See runs that failed", "/runs?status=failed", rule=rules.read),
            Command("See running automations", "/runs?status=running", rule=rules.read),
        ],
        attention=noticing.attention,
        counts=noticing.counts,
        find=noticing.find,
    )


def _page(path: str, title: str, template: str, show: Show, rule: AccessRule) -> Page:
    return Page(path=path, title=title, template=template, show=show, rule=rule)
