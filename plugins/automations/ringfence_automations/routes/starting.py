"""Automations are started by hand, over HTTP."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the rules are local names.
import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import ConfigDict, Field
from ringfence import PluginContext, WireModel
from ringfence.bounded import JsonObject, ShortText
from ringfence.web import Principal, Problem, require

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.definitions.automations import UnreadableAutomationError
from ringfence_automations.definitions.definition import InputsError
from ringfence_automations.definitions.wiring import Definitions
from ringfence_automations.routes.parameters import Name
from ringfence_automations.runs.compiled import NoPlanError
from ringfence_automations.runs.engine import Engine
from ringfence_automations.runs.starting import Skipped, TriggerFact
from ringfence_automations.runs.tables import runs_table

RUNS = "/api/automations/runs"


class StartWanted(WireModel):
    """A start by hand. With the same `once`, an automation starts once, however often it is asked for."""

    model_config = ConfigDict(extra="forbid")

    inputs: JsonObject = Field(default_factory=dict)
    once: ShortText | None = None


def build(context: PluginContext, rules: AccessRules, definitions: Definitions, engine: Engine) -> APIRouter:
    """The route. It needs the rule to run automations."""
    router = APIRouter()
    Runner = Annotated[Principal, Depends(require(rules.run))]

    @router.post("/automations/{name}/runs", status_code=201)
    async def start(name: Name, wanted: StartWanted, runner: Runner, response: Response) -> dict[str, Any]:
        """Start a run. 409 where it is skipped: another is under way, too many wait, or a condition does not hold."""
        fact = TriggerFact(kind="manual", time=dt.datetime.now(dt.UTC))
        try:
            async with context.sessions.begin() as session:
                found = await definitions.automations.one(session, name)
                if found is None:
                    raise Problem(404, "No such automation", detail=f"there is no automation {name}")
                if not found.definition.enabled:
                    detail = f"{name} is disabled: enable it before it is started"
                    raise Problem(409, "The automation is disabled", detail=detail)
                started = await engine.start(
                    session,
                    name,
                    found.revision,
                    trigger=fact,
                    event={},
                    inputs=found.definition.with_inputs(wanted.inputs),
                    once_key=None if wanted.once is None else f"manual/{wanted.once}",
                    actor=runner.name,
                )
        except InputsError as error:
            raise Problem(422, "The inputs do not fit", detail=str(error)) from error
        except (UnreadableAutomationError, NoPlanError) as error:
            raise Problem(409, "The automation cannot be read", detail=str(error)) from error
        if isinstance(started, Skipped):
            run = None if started.run is None else str(started.run)
            raise Problem(409, "The run is skipped", detail=f"{name} does not start: {started.why}", run=run)
        async with context.sessions() as session:
            shown = await runs_table.one(session, started)
        response.headers["Location"] = f"{RUNS}/{started}"
        return {"id": str(started)} if shown is None else shown.to_wire()

    return router
