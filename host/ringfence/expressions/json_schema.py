"""Reads a JSON schema, as pydantic makes them, into what the checker knows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ringfence.expressions.computing.values import BOOL, DOUBLE, INT, NULL, STRING
from ringfence.expressions.schema import ANYTHING, Elements, Record, Scalar, Schema, Shape

_SCALARS = {"string": STRING, "integer": INT, "number": DOUBLE, "boolean": BOOL, "null": NULL}
_KINDS = {str: STRING, bool: BOOL, int: INT, float: DOUBLE, type(None): NULL}


def read(document: Mapping[str, Any]) -> Schema:
    """What the schema says."""
    return _Reader(document).read(document)


class _Reader:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._root = document
        self._named: dict[str, Schema] = {}

    def read(self, schema: Any) -> Schema:
        if not isinstance(schema, Mapping):
            return ANYTHING
        if isinstance(reference := schema.get("$ref"), str):
            return self._reference(reference)
        for name in ("anyOf", "oneOf"):
            if isinstance(options := schema.get(name), list) and options:
                return Schema.either(self.read(one) for one in options)
        if isinstance(parts := schema.get("allOf"), list):
            return self.read(parts[0]) if len(parts) == 1 else ANYTHING
        if "const" in schema:
            return _among([schema["const"]])
        if isinstance(among := schema.get("enum"), list):
            return _among(among)
        types = schema.get("type")
        several = types if isinstance(types, list) else [types]
        return Schema.either(self._of_type(one, schema) for one in several)

    def _reference(self, reference: str) -> Schema:
        if reference not in self._named:
            # Asked for later: a model may hold itself.
            self._named[reference] = Schema(lambda: self._resolved(reference, frozenset()))
        return self._named[reference]

    def _resolved(self, reference: str, before: frozenset[str]) -> tuple[Shape, ...] | None:
        found: Any = self._root
        for part in reference.removeprefix("#/").split("/"):
            found = found.get(part) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping) or reference in before:
            return None
        if isinstance(further := found.get("$ref"), str):
            return self._resolved(further, before | {reference})
        return self.read(found).shapes

    def _of_type(self, type_name: Any, schema: Mapping[str, Any]) -> Schema:
        if type_name in _SCALARS:
            return Schema.of(Scalar(_SCALARS[type_name]))
        if type_name == "array":
            return Schema.of(Elements(self._items(schema)))
        if type_name == "object":
            return self._object(schema)
        return ANYTHING

    def _items(self, schema: Mapping[str, Any]) -> Schema:
        if isinstance(several := schema.get("prefixItems"), list) and several:
            return Schema.either(self.read(one) for one in several)
        return self.read(schema.get("items"))

    def _object(self, schema: Mapping[str, Any]) -> Schema:
        properties = schema.get("properties")
        fields = (
            {str(name): self.read(one) for name, one in properties.items()}
            if isinstance(properties, Mapping)
            else {}
        )
        others = schema.get("additionalProperties")
        # A model says nothing of other fields, and writes none.
        has_others = others is not False and (others is not None or not fields)
        rest = self.read(others) if has_others else None
        required = schema.get("required")
        always = frozenset(map(str, required)) if isinstance(required, list) else frozenset()
        return Schema.of(Record(fields, always & fields.keys(), rest))


def _among(values: list[Any]) -> Schema:
    texts = tuple(one for one in values if isinstance(one, str))
    shapes: list[Shape] = [Scalar(STRING, texts)] if texts else []
    for value in values:
        if isinstance(value, str):
            continue
        if (kind := _KINDS.get(type(value))) is None:
            return ANYTHING
        shapes.append(Scalar(kind))
    return Schema.of(*shapes)
