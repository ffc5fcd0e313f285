"""What a command found, as text for programs: JSON, YAML, or names alone. Pure."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ringfence.process.errors import CliError
from ringfence.process.terminal import line


class Format(enum.StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


_NAMES = ("name", "id", "key", "position", "revision", "url")
"""What a thing is called by, the first of these that it has."""


def written(document: object, format: Format) -> str:
    """One document, with the line feed at its end. Raises `CliError` if it cannot be written so."""
    if format is Format.YAML:
        return _yaml(document)
    if format is Format.NAME:
        return "".join(f"{line(name)}\n" for name in names(document))
    return json.dumps(document, indent=2, ensure_ascii=True, default=str) + "\n"


def entry(document: object, format: Format) -> str:
    """One document of a stream of them. Raises `CliError` if it cannot be written so."""
    if format is Format.YAML:
        return f"---\n{_yaml(document)}"
    if format is Format.NAME:
        return written(document, format)
    return json.dumps(document, ensure_ascii=True) + "\n"


def names(document: object) -> Iterator[str]:
    """What the things in a document are called: those of its list, or the one that it is about.

    In a list whose names do not tell its entries apart, such as that of jobs, these are their ids. Raises `CliError`
    for a document that is about nothing that has a name.
    """
    entries = _entries(document)
    if entries is None:
        yield _only(document)
        return
    found = [_name(one) for one in entries]
    if len({*found}) < len(found):
        found = [_name(one, "id") for one in entries]
    yield from (one for one in found if one is not None)


def _entries(document: object) -> list[Any] | None:
    if isinstance(document, list):
        return document
    if not isinstance(document, Mapping) or "name" in document or "id" in document:
        return None
    return next((one for one in document.values() if isinstance(one, list)), None)


def _only(document: object) -> str:
    found = _name(document)
    if found is None and isinstance(document, Mapping):
        values = list(document.values())
        within = (_name(one) for one in values if isinstance(one, Mapping))
        found = next((one for one in within if one is not None), None)
        if found is None and len(values) == 1 and isinstance(values[0], str):
            found = values[0]
    if found is None:
        raise CliError("this result is nothing that has a name", hint="Use --output json, yaml or table.")
    return found


def _name(thing: object, *keys: str) -> str | None:
    if isinstance(thing, Mapping):
        return next((str(thing[key]) for key in (*keys, *_NAMES) if thing.get(key) is not None), None)
    return thing if isinstance(thing, str) else None


def _yaml(document: object) -> str:
    try:
        import yaml
    except ImportError as error:
        raise CliError(
            "YAML needs the Python package pyyaml, which is not installed",
            hint="Install it (pip install pyyaml), or use --output json.",
        ) from error
    plain = json.loads(json.dumps(document, default=str))
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=False, width=10_000))
