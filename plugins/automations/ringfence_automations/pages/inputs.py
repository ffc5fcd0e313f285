"""Inputs of an automation as fields of a form, and what was written into these, read. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ringfence.bounded import bounded_json

from ringfence_automations.definitions.definition import Definition, Input, InputType

BEFORE = "input-"
"""What the names of these fields begin with."""
_WRITTEN = {
    InputType.INTEGER: "a whole number, such as 3",
    InputType.NUMBER: "a number, such as 1.5",
    InputType.ARRAY: "a JSON list, such as [1, 2]",
    InputType.OBJECT: 'a JSON object, such as {"a": 1}',
    InputType.ANY: "a JSON value; put text in quotation marks",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input as a field."""

    name: str
    label: str
    type: str
    value: str
    hint: str
    required: bool
    has_default: bool
    error: str | None = None


class WrongInputsError(ValueError):
    """What was written is not what the inputs are; `errors` has the field of each."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{name}: {error}" for name, error in errors.items()))


def fields(
    definition: Definition,
    written: Mapping[str, str] | None = None,
    errors: Mapping[str, str] | None = None,
) -> list[Field]:
    """The fields, with what was written into them, or else their defaults."""
    given = written or {}
    return [
        Field(
            name=f"{BEFORE}{name}",
            label=name,
            type=one.type.value,
            value=given.get(f"{BEFORE}{name}", _text(one)) if written else _text(one),
            hint=_hint(one),
            required=one.required,
            has_default=one.has_default,
            error=(errors or {}).get(name),
        )
        for name, one in definition.inputs.items()
    ]


def read(definition: Definition, written: Mapping[str, str]) -> dict[str, Any]:
    """The inputs that were written. A field that is left empty gives none. Raises `WrongInputsError`."""
    found: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, one in definition.inputs.items():
        text = written.get(f"{BEFORE}{name}", "")
        if text.strip() == "":
            if one.required:
                errors[name] = "This input is required."
            elif one.type is InputType.STRING and isinstance(one.default, str) and one.default:
                found[name] = text
            continue
        try:
            found[name] = text if one.type is InputType.STRING else bounded_json(json.loads(text))
        except (ValueError, RecursionError):
            errors[name] = f"Write {_WRITTEN.get(one.type, 'true or false')}."
            continue
        if not one.type.fits(found[name]):
            errors[name] = f"Write {_WRITTEN.get(one.type, 'true or false')}."
    if errors:
        raise WrongInputsError(errors)
    return found


def _text(one: Input) -> str:
    if one.default is None:
        return ""
    if one.type is InputType.STRING:
        return str(one.default)
    return json.dumps(one.default, ensure_ascii=False)


def _hint(one: Input) -> str:
    empty = "required" if one.required else "" if one.has_default else "may be left empty"
    return "; ".join(part for part in (one.description, _WRITTEN.get(one.type), empty) if part)
