"""Writes a definition as YAML that is read as the same definition again. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from ringfence_automations.definitions.definition import Definition
from ringfence_automations.definitions.reading.documents import NotReadableError, documents
from ringfence_automations.definitions.step import numbered

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_ ./()-]*|(?:[0-9]+(?:ms|[smhd]))+")
_WORDS = frozenset({"null", "true", "false"})


class _Writer(yaml.SafeDumper):  # type: ignore[misc]
    """Texts of several lines as they stand; whatever else may be read as no text between quotation marks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(writer: yaml.SafeDumper, text: str) -> yaml.Node:
    if "\n" in text:
        return writer.represent_scalar("tag:yaml.org,2002:str", text, style="|")
    is_plain = _PLAIN.fullmatch(text) is not None and text.lower() not in _WORDS
    style = None if is_plain else "'" if '"' in text else '"'
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_BOOL = "tag:yaml.org,2002:bool"
_Writer.add_representer(str, _text)
# `on` is a text in YAML 1.2.
_Writer.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in several if tag != _BOOL]
    for first, several in yaml.SafeDumper.yaml_implicit_resolvers.items()
}
_Writer.add_implicit_resolver(_BOOL, re.compile("^(?:true|false)$"), list("tf"))


def as_yaml(definition: Definition) -> str:
    """The definition as people write it, without the ids that steps have by their places alone."""
    document = definition.to_wire()
    document["steps"] = _without_numbers(document["steps"])
    text: str = yaml.dump(
        document, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=False
    )
    try:
        if [one.value for one in documents(text)] == [document]:
            return text
    except NotReadableError:
        pass
    # There are texts that YAML has no plain way to write: JSON is YAML, too.
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"


def _without_numbers(steps: list[Any]) -> list[Any]:
    """Steps without the ids that `numbered` gives them again."""
    bare = _each(steps, lambda step: {key: value for key, value in step.items() if key != "id"})
    given = iter(_ids(numbered(bare)))
    made: list[Any] = _each(
        steps,
        lambda step: {key: value for key, value in step.items() if key != "id" or value != next(given)},
    )
    return made


def _each(steps: Any, change: Any) -> Any:
    """The same lists of steps, each step changed, in the order in which they are written."""
    return [_changed(step, change) for step in steps]


def _changed(step: dict[str, Any], change: Any) -> dict[str, Any]:
    made: dict[str, Any] = change(step)
    return {key: _inner(key, value, change) for key, value in made.items()}


def _inner(kind: str, body: Any, change: Any) -> Any:
    match kind, body:
        case "choose", {"options": list(options)}:
            made = {**body, "options": [{**one, "steps": _each(one["steps"], change)} for one in options]}
            if "otherwise" in body:
                made["otherwise"] = _each(body["otherwise"], change)
            return made
        case "parallel", {"branches": list(branches)}:
            return {**body, "branches": [_each(branch, change) for branch in branches]}
        case "repeat", {"steps": list(steps)}:
            return {**body, "steps": _each(steps, change)}
        case _:
            return body


def _ids(steps: Any) -> list[str]:
    found: list[str] = []

    def note(step: dict[str, Any]) -> dict[str, Any]:
        found.append(step["id"])
        return step

    _each(steps, note)
    return found
