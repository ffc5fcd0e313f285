"""Automations are started by hand, over HTTP."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the rules are local names.
from typing import Annotated, Any

from fastapi import Depends, Response
from pydantic import ConfigDict, Field
from ringfence import PluginContext, WireModel
from ringfence.bounded import JsonObject, ShortText
from ringfence.web import Principal, Router, require

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.by_hand.runs import RunsByHand
from ringfence_automations.routes.parameters import Name
from ringfence_automations.runs.tables import runs_table

RUNS = "/api/automations/runs"


class StartWanted(WireModel):
    """A start by hand. With the same `once`, an automation starts once, however often it is asked for."""

    model_config = ConfigDict(extra="forbid")

    inputs: JsonObject = Field(default_factory=dict)
    once: ShortText | None = None


def build(context: PluginContext, rules: AccessRules, by_hand: RunsByHand) -> Router:
    """The route. It needs the rule to run automations."""
    router = Router()
    Runner = Annotated[Principal, Depends(require(rules.run))]

    @router.post("/automations/{name}/runs", status_code=201)
    async def start(name: Name, wanted: StartWanted, runner: Runner, response: Response) -> dict[str, Any]:
        """Start a run. 409 where it is skipped: another is under way, too many wait, or a condition does not hold."""
        started = await by_hand.start(name, wanted.inputs, runner, once=wanted.once)
        async with context.sessions() as session:
            shown = await runs_table.one(session, started)
        response.headers["Location"] = f"{RUNS}/{started}"
        return {"id": str(started)} if shown is None else shown.to_wire()

    return router
