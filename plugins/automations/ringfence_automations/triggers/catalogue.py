"""What there is to listen to: the hooks of this instance, with what each of their events tells. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ringfence import DeclaredHook
from ringfence.expressions import Schema

from ringfence_automations.definitions.hook_names import aliases_of

MOST_DEPTH = 3
"""How deep fields within fields are listed."""


def catalogue(hooks: Iterable[DeclaredHook]) -> list[dict[str, Any]]:
    """Each hook, as it is shown."""
    return [
        {
            "name": one.name,
            "aliases": aliases_of(one.name),
            "plugin": one.plugin,
            "meaning": one.meaning,
            "payloadRule": one.payload_rule,
            "fields": list(_fields(one.model.model_json_schema(by_alias=True, mode="serialization"))),
        }
        for one in hooks
    ]


def _fields(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The fields that an expression finds below `event`, with their kinds, and what their model says of them."""
    told = document.get("properties") or {}
    for name, schema, depth in _named("", Schema.of_json_schema(document), 1):
        meaning = told[name].get("description") if depth == 1 and isinstance(told.get(name), dict) else None
        yield {"name": name, "type": schema.describe(), "meaning": meaning}


def _named(before: str, schema: Schema, depth: int) -> Iterator[tuple[str, Schema, int]]:
    for name, inner in schema.fields.items():
        yield f"{before}{name}", inner, depth
        if depth < MOST_DEPTH:
            yield from _named(f"{before}{name}.", inner, depth + 1)
