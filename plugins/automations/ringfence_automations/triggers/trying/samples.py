"""An event as there may be one, made of what is known of its hook. Pure."""

from __future__ import annotations

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
