"""The API, from the description that a host gives of itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from ringfence.pages.api_docs import access

from tools.site.tables import code, fields, kind, table

_HEAD = """# The API

Each request needs a token (`Authorization: Bearer …`) with [the rule of its route](../access.md). Errors are
documents of RFC 9457. A host describes itself at `/api/openapi.json`, and, for people, at `/api/docs`; both
tell what its own plugins bring.

"""
Document = Mapping[str, Any]


def page(openapi: Document) -> str:
    """The page."""
    by_tag: dict[str, list[str]] = defaultdict(list)
    components = openapi["components"]["schemas"]
    for path, methods in sorted(openapi["paths"].items()):
        for method, operation in methods.items():
            tag = operation.get("tags", ["of each instance"])[0]
            by_tag[tag] += [f"### {method.upper()} {path}\n", *_told(operation, components)]
    return _HEAD + "\n".join(f"## {tag}\n\n" + "\n".join(parts) for tag, parts in sorted(by_tag.items()))


def _told(operation: Document, components: Document) -> Iterator[str]:
    yield f"{operation.get('description') or operation.get('summary', '') + '.'}\n".replace("<", "&lt;")
    yield f"{access(operation)}\n"
    rows = [
        (code(one["name"]), one["in"], kind(one["schema"], components), one.get("description", ""))
        for one in operation.get("parameters", ())
    ]
    yield table(("parameter", "in", "value", "meaning"), rows)
    for media, body in operation.get("requestBody", {}).get("content", {}).items():
        schema = body.get("schema", {})
        if name := schema.get("$ref", "").rpartition("/")[2]:
            found = fields({**components[name], "$defs": components})
            rows = [(code(path), of, default, meaning) for path, of, default, meaning in found]
            yield f"Body ({media}):\n"
            yield table(("field", "value", "default", "meaning"), rows)
