"""The API as a page, made on the host from its OpenAPI document: it needs nothing from elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

METHODS = ("get", "post", "put", "patch", "delete")


def sections(document: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What can be asked of the API, by who answers it, in the order of the paths."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path, methods in sorted(document.get("paths", {}).items()):
        for method in METHODS:
            if method in methods:
                operation = methods[method]
                tag = (operation.get("tags") or ["other"])[0]
                found.setdefault(tag, []).append(_operation(method, path, operation))
    return dict(sorted(found.items()))


def access(operation: Mapping[str, Any]) -> str:
    """Who may use an operation, in words; a rule stands between accents."""
    if not (security := operation.get("security")):
        return "Needs no token."
    rules = [rule for one in security for named in one.values() for rule in named]
    if not rules:
        return "Needs a token, with any access rule."
    return f"Needs a token with the access rule {' and '.join(f'`{rule}`' for rule in rules)}."


def schemas(document: Mapping[str, Any]) -> dict[str, Any]:
    """What bodies are made of, by name."""
    return dict(sorted(document.get("components", {}).get("schemas", {}).items()))


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody")
    return {
        "method": method.upper(),
        "path": path,
        "summary": operation.get("summary", ""),
        "description": operation.get("description", ""),
        "access": access(operation),
        "parameters": [
            {
                "name": one["name"],
                "where": one["in"],
                "required": one.get("required", False),
                "schema": one.get("schema", {}),
                "description": one.get("description", ""),
            }
            for one in operation.get("parameters", ())
        ],
        "body": [] if body is None else list(_content(body)),
        "answers": [
            {"status": status, "description": one.get("description", ""), "content": list(_content(one))}
            for status, one in operation.get("responses", {}).items()
        ],
    }


def _content(part: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for media_type, content in part.get("content", {}).items():
        schema = content.get("schema", {})
        yield {"type": media_type, "schema": schema, "name": _name(schema)}


def _name(schema: Mapping[str, Any]) -> str | None:
    """The name of the schema that this one refers to, itself or in its entries."""
    reference = schema.get("$ref") or schema.get("items", {}).get("$ref")
    return None if reference is None else str(reference).rpartition("/")[2]
