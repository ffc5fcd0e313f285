"""An event as there may be one, made of what is known of its hook and of what a filter asks for. Pure."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import Any

MOST_DEPTH = 6
_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def sample(document: Mapping[str, Any]) -> Any:
    """A value that fits a JSON schema, as far as its types, choices and defaults go."""
    return _value(document, document.get("$defs") or {}, MOST_DEPTH)


# Only equalities: whoever calls looks whether the filter holds then.
_WISH = re.compile(
    r"""\bevent((?:\.[A-Za-z_]\w*)+)\s*==\s*("[^"\\]*"|'[^'\\]*'|-?\d+(?:\.\d+)?(?![\w.])|true\b|false\b)"""
)


def as_wished(event: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The event with the values that a filter compares its fields with: `event.status == "unhealthy"`."""
    wished = copy.deepcopy(dict(event))
    for path, literal in _WISH.findall(text):
        *way, last = path[1:].split(".")
        here: Any = wished
        for name in way:
            here = here.setdefault(name, {}) if isinstance(here, dict) else None
        if isinstance(here, dict):
            here[last] = literal[1:-1] if literal[0] in "\"'" else json.loads(literal)
    return wished


def _value(schema: Mapping[str, Any], known: Mapping[str, Any], depth: int) -> Any:
    if depth == 0:
        return None
    for given in ("const", "default"):
        if schema.get(given) is not None:
            return schema[given]
    for given in ("examples", "enum"):
        if schema.get(given):
            return schema[given][0]
    if "$ref" in schema:
        return _value(known.get(str(schema["$ref"]).rpartition("/")[2], {}), known, depth - 1)
    for several in ("anyOf", "oneOf", "allOf"):
        if options := [one for one in schema.get(several, ()) if one.get("type") != "null"]:
            return _value(options[0], known, depth - 1)
    match schema.get("type"):
        case "string":
            return _FORMATS.get(str(schema.get("format")), str(schema.get("title") or "text").lower())
        case "integer":
            return int(schema.get("minimum", 1))
        case "number":
            return float(schema.get("minimum", 1))
        case "boolean":
            return False
        case "array":
            return []
        case "object":
            fields = schema.get("properties") or {}
            return {name: _value(one, known, depth - 1) for name, one in fields.items()}
        case _:
            return None
