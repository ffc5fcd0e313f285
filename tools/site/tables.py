"""Tables of Markdown from JSON schemas. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]
MAX_DEPTH = 3


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; empty if it has no rows."""
    lines = ["| " + " | ".join(map(cell, row)) + " |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}", *lines, ""])


def cell(text: str) -> str:
    """A text as it may stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """A text as code, whatever is in it."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def fields(schema: Schema) -> list[tuple[str, str, str, str]]:
    """The fields of an object, those of objects in it too: path, type, default and meaning."""
    return list(_fields(schema, schema.get("$defs", {}), "", MAX_DEPTH))


def _fields(
    schema: Schema, definitions: Schema, before: str, depth: int
) -> Iterator[tuple[str, str, str, str]]:
    required = schema.get("required", ())
    for name, given in schema.get("properties", {}).items():
        target = _resolved(given, definitions)
        is_object = "properties" in target and depth > 1
        default = "required" if name in required else ""
        if "default" in given and not is_object:
            default = code(json.dumps(given["default"], ensure_ascii=False))
        # What is said here of a field goes before what its type says of itself.
        meaning = given.get("description") or target.get("description") or given.get("title", "")
        yield (
            f"{before}{name}",
            kind(given, definitions),
            default,
            meaning.partition("\n\n")[0] + _effects(given),
        )
        if is_object:
            yield from _fields(target, definitions, f"{before}{name}.", depth - 1)


def kind(schema: Schema, definitions: Schema) -> str:
    """What a value may be, in a few words."""
    if "$ref" in schema:
        return kind(_resolved(schema, definitions), definitions)
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    if "enum" in schema:
        return ", ".join(code(str(one)) for one in schema["enum"])
    if several := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(kind(one, definitions) for one in several))
    if "allOf" in schema:
        return kind(schema["allOf"][0], definitions)
    if (name := schema.get("type")) == "array":
        of = kind(schema.get("items", {}), definitions)
        return "list" if of == "anything" else f"list of: {of}"
    if isinstance(name, list):
        return " or ".join(name)
    unit = schema.get("unit")
    return f"{name or 'anything'}{f' ({unit})' if unit else ''}{_bounds(schema)}"


def _bounds(schema: Schema) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and most is not None and most < 2**50:
        return f", {least:,} to {most:,}"
    if least is not None:
        return f", at least {least:,}"
    return f", at most {most:,}" if most is not None and most < 2**50 else ""


def _effects(schema: Schema) -> str:
    told = [f"{code(value)}: {words}" for value, words in schema.get("effects", {}).items()]
    return "".join(f"<br>{one}" for one in told)


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    for one in (schema, *schema.get("anyOf", ())):
        if "$ref" in one:
            found: Schema = definitions[one["$ref"].rpartition("/")[2]]
            return found
    return schema
