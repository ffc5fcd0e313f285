"""Settings as people see them: the value of each without secrets, and where it comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from ringfence.process import settings_file
from ringfence.process.variables import Setting
from ringfence.redaction import redacted
from ringfence.settings.catalog import shown, variable_of

HIDDEN = "(hidden)"


def listed(
    one: Setting, *, problem: str | None = None, used: Mapping[str, str | None] | None = None
) -> dict[str, Any]:
    """One setting. `used` are values that a process has, by variable, which may be others than its environment says."""
    given = os.environ.get(one.variable) or None
    source = (
        "default" if given is None else "file" if one.variable in settings_file.applied() else "environment"
    )
    value = one.default if given is None else given
    if used is not None and one.variable in used and used[one.variable] != value:
        value = used[one.variable]
        # What the environment says may be written otherwise than the value that is read from it.
        source = "command line" if given is None else source
    hidden = one.secret and (given is not None or value not in {None, one.default})
    return {
        "name": one.variable,
        "value": HIDDEN if hidden else None if value is None else redacted(value),
        "source": source,
        "default": one.default,
        "secret": one.secret,
        "owner": one.owner,
        "description": one.description,
        "problem": problem,
    }


def values_of(settings: BaseSettings) -> dict[str, str | None]:
    """What a model was made with, by variable; secrets hidden."""
    model = type(settings)
    found: dict[str, str | None] = {}
    for name in model.model_fields:
        value = getattr(settings, name)
        found[variable_of(model, name)] = HIDDEN if isinstance(value, SecretStr) else shown(value)
    return found
