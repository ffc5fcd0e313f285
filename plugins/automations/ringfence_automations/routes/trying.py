"""Automations are tried over HTTP: what they would do is told, or done. Who may is said in `by_hand/trying.py`."""

# No `from __future__ import annotations` here: FastAPI reads the annotations, and the rules are local names.
from typing import Annotated, Any

from fastapi import Depends
from pydantic import ConfigDict, Field, StrictBool, StrictInt
from ringfence import WireModel
from ringfence.bounded import JsonObject
from ringfence.web import Principal, Router, require

from ringfence_automations.access_rules import AccessRules
from ringfence_automations.by_hand.trying import TryingByHand, With
from ringfence_automations.routes.parameters import Name


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


def build(rules: AccessRules, trying: TryingByHand) -> Router:
    """The route. It needs the rules to run automations and to see them: the answer tells what their steps are."""
    router = Router()
    Runner = Annotated[Principal, Depends(require(rules.run))]

    @router.post("/automations/{name}/try")
    async def try_out(name: Name, wanted: TryWanted, runner: Runner) -> dict[str, Any]:
        """Tell what an automation would do with an event, or have it done."""
        given = With(wanted.event, wanted.trigger, wanted.payload, wanted.inputs)
        return await trying.stored(name, given, runner, for_real=wanted.for_real)

    return router
