"""Settings as a list: what each is, what a model makes of them, and which variables are none."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

PREFIX = "RINGFENCE_"
_ALIKE = 0.6
"""How much of a name must be that of a setting to be taken for a slip (see `difflib`)."""

S = TypeVar("S", bound=BaseSettings)


class SettingsError(ValueError):
    """A setting cannot be used; the message names its variable, and quotes no value."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        """What is wrong, by variable."""
        super().__init__(
            "; ".join(f"invalid setting {variable}: {problem}" for variable, problem in problems.items())
        )


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its variable, whose it is, what it is for, and its default (None: it is not set)."""

    variable: str
    owner: str
    description: str
    default: str | None = None
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """A variable that is no setting, and the setting whose name is nearest, if one is near."""

    variable: str
    nearest: str | None

    def __str__(self) -> str:
        """The sentence that tells of it."""
        advice = f": did you mean {self.nearest}?" if self.nearest else ""
        return f"{self.variable} is not a setting and has no effect{advice}"


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
            problems.setdefault(variable, found["msg"].removeprefix("Value error, "))
        raise SettingsError(problems) from None


def unknown(environ: Iterable[str], known: Iterable[str]) -> tuple[Unknown, ...]:
    """The variables of `environ` that look like settings and are none."""
    names = {
        name.removeprefix(PREFIX) for name in known
    }  # which all share the prefix, and so say nothing by it
    strange = {name.removeprefix(PREFIX) for name in environ if name.startswith(PREFIX)} - names
    return tuple(Unknown(PREFIX + name, _nearest(name, names)) for name in sorted(strange))


def _nearest(name: str, names: Iterable[str]) -> str | None:
    alike = difflib.get_close_matches(name, sorted(names), n=1, cutoff=_ALIKE)
    return PREFIX + alike[0] if alike else None


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
