"""What FastAPI makes of the types of routes, kept from one host of the tests to the next.

A host builds its routes when it starts, and nothing in that takes as long as pydantic's validators for the types of
their parameters and answers. A process has one host; only the tests have hundreds, whose types are the same.
"""

from __future__ import annotations

from typing import Any, get_args

from fastapi._compat import v2
from pydantic import TypeAdapter

_kept: dict[object, TypeAdapter[Any]] = {}


def install() -> None:
    """From now on, have FastAPI take what it has made for the same type before."""
    setattr(v2, "TypeAdapter", _adapter)  # noqa: B010 - a function in place of a class


def _adapter(annotated: Any, *, config: Any = None) -> TypeAdapter[Any]:
    bare, *metadata = get_args(annotated)
    # Metadata have no equality of their own, but all that they hold is in their words.
    key = (bare, repr(metadata), repr(config))
    try:
        hash(key)
    except TypeError:
        return TypeAdapter(annotated, config=config)
    if key not in _kept:
        _kept[key] = TypeAdapter(annotated, config=config)
    return _kept[key]
