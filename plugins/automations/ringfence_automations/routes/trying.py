"""Automations are tried over HTTP: what they would do is told, or done.

Threat: somebody reads by it what an event tells, or what an automation says, and may not. Mechanism: who tries an
automation with an event of the log holds the rule that its hook names for that, and who tries one at all may read it.
"""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the rules are local names.
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import ConfigDict, Field, StrictBool, StrictInt
from ringfence import PluginContext, WireModel
from ringfence.bounded import JsonObject
from ringfence.web import Principal, Problem, require, require_on

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.definitions.automations import UnreadableAutomationError
from ringfence_automations.definitions.definition import InputsError
from ringfence_automations.definitions.wiring import Definitions
from ringfence_automations.routes.parameters import Name
from ringfence_automations.runs.compiled import NoPlanError
from ringfence_automations.triggers.trying.trying import CannotTryError, Happening, Trying


class TryWanted(WireModel):
    """What to try an automation with: the event of the log at `event`, or what its trigger `trigger` may come with.

    `payload` takes the place of the latter's event. With `forReal` it is done, in a run.
    """

    model_config = ConfigDict(extra="forbid")

    event: Annotated[StrictInt, Field(ge=1, lt=2**63)] | None = None
    trigger: Annotated[StrictInt, Field(ge=1, le=100)] | None = None
    payload: JsonObject | None = None
    inputs: JsonObject = Field(default_factory=dict)
    for_real: StrictBool = False


def build(context: PluginContext, rules: AccessRules, definitions: Definitions, trying: Trying) -> APIRouter:
    """The route. It needs the rules to run automations and to see them: the answer tells what their steps are."""
    router = APIRouter()
    Runner = Annotated[Principal, Depends(require(rules.run))]

    async def happening(wanted: TryWanted, definition: Any, runner: Principal) -> Happening:
        if wanted.event is None:
            return trying.made_up(definition, wanted.trigger, wanted.payload)
        found = await trying.logged(wanted.event)
        declared = context.hooks.find(found.fact.hook or "")
        rule = None if declared is None else declared.payload_rule
        if rule is not None and not runner.holds(rule):
            detail = (
                f"{runner.name} does not hold the access rule {rule}, which shows events of {found.fact.hook}"
            )
            raise Problem(403, detail=detail, rule=rule)
        return found

    @router.post("/automations/{name}/try")
    async def try_out(name: Name, wanted: TryWanted, runner: Runner) -> dict[str, Any]:
        """Tell what an automation would do with an event, or have it done."""
        require_on(runner, rules.read, ())
        try:
            async with context.sessions() as session:
                found = await definitions.automations.one(session, name)
            if found is None:
                raise Problem(404, "No such automation", detail=f"there is no automation {name}")
            if wanted.for_real and not found.definition.enabled:
                detail = f"{name} is disabled: enable it before it is tried for real"
                raise Problem(409, "The automation is disabled", detail=detail)
            given = await happening(wanted, found.definition, runner)
            inputs = found.definition.with_inputs(wanted.inputs)
            told = await trying.told(found, definitions.kinds, given, inputs)
            if not wanted.for_real or not told["starts"]:
                return told
            return {**told, **await trying.done(found, given, inputs, by=runner.name)}
        except InputsError as error:
            raise Problem(422, "The inputs do not fit", detail=str(error)) from error
        except CannotTryError as error:
            raise Problem(422, "It cannot be tried with that", detail=str(error)) from error
        except (UnreadableAutomationError, NoPlanError) as error:
            raise Problem(409, "The automation cannot be read", detail=str(error)) from error

    return router
