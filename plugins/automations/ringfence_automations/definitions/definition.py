"""What an automation is: the definition that somebody writes. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import Field, StrictBool, StrictInt, model_validator
from ringfence.bounded import Json, LongText, ShortText

from ringfence_automations.definitions.parts import (
    AutomationName,
    ExpressionText,
    Identifier,
    Part,
    TemplateText,
)
from ringfence_automations.definitions.step import Step, Steps, all_steps, numbered
from ringfence_automations.definitions.trigger import Triggers

MAX_ALL_STEPS = 200
"""How many steps a definition has, those within others included."""
MAX_PARALLEL = 100
DEFAULT_PARALLEL = 10


class Mode(enum.StrEnum):
    """What becomes of a run that is to start while one is under way."""

    SINGLE = "single"
    """It is skipped."""
    QUEUED = "queued"
    """It waits for its turn."""
    PARALLEL = "parallel"
    """It starts, as long as no more than `max` are under way; then it waits."""
    RESTART = "restart"
    """The one under way is cancelled, and its end is waited for."""


class InputType(enum.StrEnum):
    """What an input is, as JSON calls it."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    ARRAY = "array"
    OBJECT = "object"
    ANY = "any"

    def fits(self, value: Any) -> bool:
        """Whether a value of JSON is one."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        match self:
            case InputType.STRING:
                return isinstance(value, str)
            case InputType.INTEGER:
                return is_number and isinstance(value, int)
            case InputType.NUMBER:
                return is_number
            case InputType.BOOLEAN:
                return isinstance(value, bool)
            case InputType.ARRAY:
                return isinstance(value, list)
            case InputType.OBJECT:
                return isinstance(value, dict)
            case InputType.ANY:
                return True


class Input(Part):
    """A value that whoever starts the automation by hand gives to it."""

    type: InputType = InputType.STRING
    description: LongText | None = None
    required: StrictBool = False
    default: Json = None

    @model_validator(mode="after")
    def _has_a_default_that_fits(self) -> Self:
        if self.has_default and self.required:
            raise ValueError("is required, so that its default would never count")
        if self.default is not None and not self.type.fits(self.default):
            raise ValueError(f"has a default that is no {self.type}")
        return self

    @property
    def has_default(self) -> bool:
        """Whether it has a value also when nobody gives one."""
        return "default" in self.model_fields_set


class InputsError(ValueError):
    """The inputs that were given do not fit the definition; the message says which."""


class Definition(Part):
    """An automation as it is written."""

    name: AutomationName
    description: LongText | None = None
    enabled: StrictBool = True
    triggers: Triggers = ()
    inputs: Annotated[dict[Identifier, Input], Field(max_length=50, default_factory=dict)]
    conditions: Annotated[tuple[ExpressionText, ...], Field(max_length=20)] = ()
    steps: Steps
    mode: Mode = Mode.SINGLE
    max: Annotated[StrictInt, Field(ge=1, le=MAX_PARALLEL)] = DEFAULT_PARALLEL
    concurrency_key: TemplateText | None = None
    run_as: ShortText | None = None

    @model_validator(mode="before")
    @classmethod
    def _numbered(cls, given: Any) -> Any:
        if isinstance(given, dict) and "steps" in given:
            return {**given, "steps": numbered(given["steps"])}
        return given

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if "max" in self.model_fields_set and self.mode is not Mode.PARALLEL:
            raise ValueError("can have max only with mode: parallel")
        if sum(1 for _ in self.all_steps()) > MAX_ALL_STEPS:
            raise ValueError(f"can have at most {MAX_ALL_STEPS} steps, those within others included")
        return self

    def all_steps(self) -> Iterator[Step]:
        """All steps, those within others included, in the order in which they are written."""
        return all_steps(self.steps)

    def with_inputs(self, given: dict[str, Any]) -> dict[str, Any]:
        """What the inputs are if these are given. Raises `InputsError`."""
        if unknown := sorted(given.keys() - self.inputs.keys()):
            known = f"it has {', '.join(self.inputs)}" if self.inputs else "it has none"
            raise InputsError(f"{self.name} has no input {', '.join(unknown)}; {known}")
        values = {}
        for name, one in self.inputs.items():
            if name in given:
                if not one.type.fits(given[name]):
                    raise InputsError(f"input {name} must be a value of type {one.type}")
                if one.required and one.type is InputType.STRING and not given[name].strip():
                    raise InputsError(f"input {name} is required, so it must not be empty")
                values[name] = given[name]
            elif one.required:
                raise InputsError(f"input {name} is required")
            else:
                values[name] = one.default
        return values

    def to_wire(self) -> dict[str, Any]:
        """The same as JSON: what was written, and nothing that was not."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)
