"""The JSON schema of definitions, by which an editor tells mistakes while somebody writes. Pure.

It takes whatever the host takes, and some of what it does not: what an expression may ask for, and what must go with
what, is looked at by the host alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ringfence_automations.definitions.definition import Definition
from ringfence_automations.definitions.step import TIMEOUT

_SPAN = {"type": "string", "examples": ["30s", "5m"]}


def schema_of(kinds: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """The schema, with the steps of these kinds."""
    document = Definition.model_json_schema(by_alias=True)
    known = document["$defs"]
    step = known["Step"]
    # Who writes no id has the step numbered.
    step["required"] = []
    step["additionalProperties"] = False
    for kind, model in sorted(kinds.items()):
        step["properties"][kind] = _within(kind, model, known)
    known["Choose"] = {"anyOf": [_as_a_list(), known["Choose"]]}
    webhook = known["Trigger"]["properties"]["webhook"]
    webhook["anyOf"].append({"const": True})
    return {"$schema": "http://json-schema.org/draft-07/schema#", **document, "title": "Automation"}


def _as_a_list() -> dict[str, Any]:
    otherwise = {
        "type": "object",
        "properties": {"otherwise": {"type": "array", "items": {"$ref": "#/$defs/Step"}}},
        "required": ["otherwise"],
        "additionalProperties": False,
    }
    return {"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/Option"}, otherwise]}}


def _within(kind: str, model: type[BaseModel], known: dict[str, Any]) -> dict[str, Any]:
    """The schema of a kind's body; the definitions that it refers to are among those that are `known`."""
    document = model.model_json_schema(by_alias=True)
    names = document.pop("$defs", {})
    renamed = json.loads(
        json.dumps({"body": document, "names": names}).replace('"#/$defs/', f'"#/$defs/{kind}.')
    )
    known.update({f"{kind}.{name}": one for name, one in renamed["names"].items()})
    body: dict[str, Any] = renamed["body"]
    body.setdefault("properties", {})[TIMEOUT] = _SPAN
    return body
