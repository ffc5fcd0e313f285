"""Writes a definition as YAML that is read as the same definition again. Pure."""

from __future__ import annotations

from typing import Any

from ringfence.documents import writing

from ringfence_automations.definitions.definition import Definition
from ringfence_automations.definitions.step import numbered


def as_yaml(definition: Definition) -> str:
    """The definition as people write it, without the ids that steps have by their places alone."""
    return writing.as_yaml(as_written(definition))


def as_written(definition: Definition) -> dict[str, Any]:
    """The definition as JSON, without those ids."""
    document = definition.to_wire()
    return {**document, "steps": _without_numbers(document["steps"])}


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
