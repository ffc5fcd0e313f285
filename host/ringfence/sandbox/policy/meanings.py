"""How a setting of the policy says what it means: in its JSON schema, for forms and editors to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field


def meant(
    default: object,
    title: str,
    meaning: str,
    *,
    unit: str | None = None,
    effects: Mapping[str, str] | None = None,
    **bounds: Any,
) -> Any:
    """A setting with a title, what it means, and what its values do.

    `effects` is by the value as JSON; of a list, and of what may be left out, by `none` and `some`, where `{value}`
    stands for what it is. The schema has them as `effects`, and `unit` as `unit`.
    """
    more: dict[str, Any] = {} if effects is None else {"effects": dict(effects)}
    if unit is not None:
        more["unit"] = unit
    return Field(default=default, title=title, description=meaning, json_schema_extra=more, **bounds)
