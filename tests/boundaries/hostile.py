"""What must not be taken, by the kind of a field, and examples that fit: both made from a JSON schema.

So a new route or frame, or a new field of one, is tried as soon as it is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

TEXTS = ("\0", "a\0b", "\ud800", "a\udfffb")
TIMES = (
    "0001-01-01T00:00:00+23:59",
    "1999-12-31T23:59:59Z",
    "9999-12-31T23:59:59-23:59",
    "2100-01-01T00:00:00Z",
    "2024-01-01T00:00:00",
)
DEEP = 3000
_DEEP, _HUGE = "@deep@", "@1e400@"
NUMBERS = (float("nan"), float("inf"), float("-inf"), _HUGE, 10**400, -(10**400))
NO_NUMBERS = (True, False, "1", "1.5")
NO_TRUTHS = (1, 0, "true", "yes")
ANYTHING = (
    *TEXTS,
    *NUMBERS,
    {"a": ["a\0b"]},
    {"a\0b": 1},
    {"\udfff": 1},
    [float("nan")],
    {"a": _HUGE},
    {"a": {"b": 10**400}},
    _DEEP,
)
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    2**63,
    1e308,
    "",
    "x" * 3000,
    "\U0010ffff\u200b\r\n",
    [[]],
    {"": None},
)
"""What is refused by some fields and taken by others, and must never be an error of ours."""


def text_of(document: Any) -> str:
    """The document as JSON, with the numbers and depths that `json` does not write itself."""
    deep = "[" * DEEP + "]" * DEEP
    return json.dumps(document).replace(f'"{_DEEP}"', deep).replace(f'"{_HUGE}"', "1e400")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A document in which the field at `path` is not as it should be. `refused`: it must not be taken."""

    path: str
    document: Any
    refused: bool


class Walk:
    """Goes through the schemas of an OpenAPI document or of a model."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def resolved(self, schema: Schema) -> Schema:
        """The schema itself, behind references and what may be null."""
        while True:
            if "$ref" in schema:
                schema = self._definitions[schema["$ref"].rsplit("/", 1)[1]]
            elif options := schema.get("anyOf") or schema.get("allOf") or schema.get("oneOf"):
                schema = next((one for one in options if one.get("type") != "null"), options[0])
            else:
                return schema

    def example(self, schema: Schema) -> Any:
        """A value that fits, with every field."""
        schema = self.resolved(schema)
        if "const" in schema or "enum" in schema:
            return schema.get("const", (schema.get("enum") or [None])[0])
        match schema.get("type"):
            case "object":
                return {name: self.example(one) for name, one in schema.get("properties", {}).items()}
            case "array":
                return []
            case "string":
                return {
                    "uuid": "00000000-0000-4000-8000-000000000000",
                    "date-time": "2024-05-01T12:00:00Z",
                }.get(
                    schema.get("format", ""),
                    "A" * max(1, schema.get("minLength", 1), 12 if "writeOnly" in schema else 0),
                )
            case "integer" | "number":
                return schema.get("default") or max(schema.get("minimum", 1), 1)
            case "boolean":
                return False
        return None

    def attempts(self, schema: Schema, whole: Any, path: tuple[Any, ...] = ()) -> Iterator[Attempt]:
        """`whole`, of `schema`, with each of its fields replaced by what must not be there."""
        schema = self.resolved(schema)
        for value in _refused(schema):
            yield Attempt(".".join(map(str, path)), _replaced(whole, path, value), refused=True)
        for value in ODD:
            yield Attempt(".".join(map(str, path)), _replaced(whole, path, value), refused=False)
        for name, inner in schema.get("properties", {}).items():
            yield from self.attempts(inner, whole, (*path, name))
        if schema.get("type") == "array" and "items" in schema:
            items = schema["items"]
            yield from self.attempts(items, _replaced(whole, path, [self.example(items)]), (*path, 0))
        if isinstance(inner := schema.get("additionalProperties"), dict):
            yield from self.attempts(inner, _replaced(whole, path, {"A": self.example(inner)}), (*path, "A"))


def _refused(schema: Schema) -> tuple[Any, ...]:
    match schema.get("type"):
        case "string":
            times = TIMES if schema.get("format") == "date-time" else ()
            long = ("x" * (schema["maxLength"] + 1),) if "maxLength" in schema else ()
            return (*TEXTS, *times, *long, _HUGE, _DEEP)
        case "integer" | "number":
            return ("a\0b", *NUMBERS, *NO_NUMBERS, _DEEP)
        case "boolean":
            return ("\ud800", _HUGE, {"a": "a\0b"}, *NO_TRUTHS)
        case "array":
            return ("\ud800", _HUGE, {"a": "a\0b"})
        case "object":
            extra = ({"a\0b": _HUGE}, {"a": ["\ud800"]}) if schema.get("additionalProperties") else ()
            return ("a\0b", float("nan"), *extra, _DEEP)
        case None:
            return ANYTHING
    raise AssertionError(f"no idea of {schema}")


def _replaced(whole: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    step, *rest = path
    if isinstance(whole, list):
        return [_replaced(whole[0] if whole else {}, tuple(rest), value)]
    return {**whole, step: _replaced(whole.get(step) or {}, tuple(rest), value)}
