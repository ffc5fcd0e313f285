"""The base of every value that goes over a wire, or into a database, as JSON."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class WireModel(BaseModel):
    """An immutable value with names in camelCase outside, and in snake_case here; either may be read.

    What a model does with fields that it does not know, and with numbers that are not finite, it says itself.
    """

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)
