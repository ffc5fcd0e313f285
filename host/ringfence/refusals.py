"""What a model refuses, in plain words: pydantic's own are for programmers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_TEXTS = {
    "bool": "must be true or false",
    "dict_type": "must be a JSON object",
    "float": "must be a number",
    "finite_number": "must be a number, and not infinite",
    "frozen_set_type": "must be a list",
    "int": "must be a whole number",
    "int_parsing_size": "is too large a number",
    "json_invalid": "is not JSON",
    "list_type": "must be a list",
    "missing": "is missing",
    "model_attributes_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "none_required": "must be null",
    "set_type": "must be a list",
    "string_type": "must be a text",
    "timezone_aware": "must say its time zone, as in 2030-01-01T20:00:00Z",
    "tuple_type": "must be a list",
}
_WITH: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "enum": lambda of: f"must be {of['expected']}",
    "greater_than": lambda of: f"must be more than {of['gt']}",
    "greater_than_equal": lambda of: f"must be {of['ge']} or more",
    "less_than": lambda of: f"must be less than {of['lt']}",
    "less_than_equal": lambda of: f"must be {of['le']} or less",
    "literal_error": lambda of: f"must be {of['expected']}",
    "string_too_long": lambda of: f"must have {_counted(of['max_length'], 'character')} or fewer",
    "string_too_short": lambda of: f"must have {_counted(of['min_length'], 'character')} or more",
    "too_long": lambda of: f"must have {_counted(of['max_length'], 'entry', 'entries')} or fewer",
    "too_short": lambda of: f"must have {_counted(of['min_length'], 'entry', 'entries')} or more",
}


def in_words(problem: Mapping[str, Any]) -> str:
    """What is wrong with a value, as one of a `ValidationError`'s errors says it: to be read after the value's name."""
    kind, own = str(problem["type"]), problem.get("ctx") or {}
    text = _TEXTS.get(kind) or _TEXTS.get(kind.partition("_")[0])
    if text is not None:
        return text
    if kind in _WITH and own:
        return _WITH[kind](own)
    message = str(problem["msg"])
    if kind in {"value_error", "assertion_error"}:
        return message.partition(", ")[2]
    message = message.replace("Input should be a valid", "must be a").replace("Input should", "must")
    return f"{message[:1].lower()}{message[1:]}"


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or f'{one}s'}"
