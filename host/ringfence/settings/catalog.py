"""The settings of a model: what each is, and what the model makes of the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from ringfence.process.variables import Setting
from ringfence.refusals import in_words

S = TypeVar("S", bound=BaseSettings)


class SettingsError(ValueError):
    """A setting cannot be used; the message names its variable, and quotes no value."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        """What is wrong, by variable."""
        super().__init__(
            "; ".join(f"invalid setting {variable}: {problem}" for variable, problem in problems.items())
        )


def variable_of(model: type[BaseSettings], name: str) -> str:
    """The variable of a model's field."""
    alias = model.model_fields[name].validation_alias if name in model.model_fields else None
    return (alias if isinstance(alias, str) else f"{model.model_config.get('env_prefix', '')}{name}").upper()


def of_model(model: type[BaseSettings], owner: str) -> tuple[Setting, ...]:
    """The settings that a model has."""
    return tuple(
        Setting(
            variable_of(model, name),
            owner,
            field.description or "",
            _default(field),
            SecretStr in (field.annotation, *get_args(field.annotation)),
        )
        for name, field in model.model_fields.items()
    )


def build(model: type[S], **given: Any) -> S:
    """The model from the environment, with `given` over it. Raises `SettingsError`."""
    try:
        return model(**given)
    except ValidationError as error:
        problems: dict[str, str] = {}
        for found in error.errors(include_url=False, include_input=False, include_context=False):
            name = str(found["loc"][0]) if found["loc"] else ""
            variable = variable_of(model, name) if name else f"{model.model_config.get('env_prefix', '')}…"
            problems.setdefault(variable, in_words(found))
        raise SettingsError(problems) from None


def shown(value: Any) -> str | None:
    """A value as it would be written in the environment."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return None if value is None else str(value)


def _default(field: FieldInfo) -> str | None:
    try:
        value = field.get_default(call_default_factory=True)
    except Exception:  # where there can be none on this machine, as with a user who has no home
        return None
    return None if field.is_required() else shown(value)
