"""What the steps of a definition say, by kind: their models, and the texts in them that are templates."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from ringfence_automations.bodies.http import Http
from ringfence_automations.bodies.notify import Notify
from ringfence_automations.bodies.scripts import RunScriptBody, RunShellBody

BUILT_IN_MODELS: Mapping[str, type[BaseModel]] = {
    "run_shell": RunShellBody,
    "run_script": RunScriptBody,
    "http": Http,
    "notify": Notify,
}
"""The models of the kinds that this plugin brings itself, by the key under which a step has its body."""

__all__ = ["BUILT_IN_MODELS"]
