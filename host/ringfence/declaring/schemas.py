"""JSON Schema of documents, for editors. Pure."""

from __future__ import annotations

import copy
from typing import Any

from ringfence.declaring.kind import ObjectKind
from ringfence.declaring.reading import API_VERSION, SCRIPT, SCRIPT_FILE

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SPAN = {"type": "string", "pattern": r"^(\d+(\.\d+)?\s*(ms|[smhdw])\s*)+$", "examples": ["30s", "1h30m"]}


def schema_of(kind: ObjectKind[Any]) -> dict[str, Any]:
    """The schema of a document of this kind."""
    spec = copy.deepcopy(kind.schema())
    definitions = spec.pop("$defs", {})
    for path in kind.durations:
        _with_span(spec, definitions, path)
    _with_script_file([spec, *definitions.values()])
    labels = {"labels": {"type": "object", "additionalProperties": {"type": "string"}}}
    return {
        "$schema": DIALECT,
        "title": kind.kind,
        "description": kind.what,
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": kind.kind},
            "metadata": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name"],
                "properties": {"name": {"type": "string"}, **(labels if kind.has_labels else {})},
            },
            "spec": spec,
        },
        **({"$defs": definitions} if definitions else {}),
    }


def _with_span(spec: dict[str, Any], definitions: dict[str, Any], path: tuple[str, ...]) -> None:
    here = spec
    for part in path[:-1]:
        here = _resolved(here.get("properties", {}).get(part, {}), definitions)
    properties = here.get("properties", {})
    if (given := properties.get(path[-1])) is not None:
        told = {key: given.pop(key) for key in ("title", "description", "default") if key in given}
        properties[path[-1]] = {**told, "anyOf": [given, _SPAN]}


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    for one in (schema, *schema.get("anyOf", ())):
        if "$ref" in one:
            found: dict[str, Any] = definitions[one["$ref"].rpartition("/")[2]]
            return found
    return schema


def _with_script_file(schema: Any) -> None:
    """Offer a file wherever there is a script, however deep."""
    if isinstance(schema, list):
        for one in schema:
            _with_script_file(one)
    if not isinstance(schema, dict):
        return
    for one in schema.values():
        _with_script_file(one)
    properties = schema.get("properties")
    if not isinstance(properties, dict) or SCRIPT not in properties:
        return
    what = "A file with the script, relative to this document"
    properties[SCRIPT_FILE] = {"type": "string", "description": what}
    if SCRIPT in (required := schema.get("required", [])):
        required.remove(SCRIPT)
        schema["anyOf"] = [{"required": [SCRIPT]}, {"required": [SCRIPT_FILE]}]
