"""What a model refuses, in plain words: pydantic's own are for programmers."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
_REPLACED = (
    (re.compile(r"^(Input|String|Value|List|Tuple|Set|Dictionary|Bytes) should "), "must "),
    (re.compile(r"\bgreater than or equal to\b"), "at least"),
    (re.compile(r"\bless than or equal to\b"), "at most"),
    (re.compile(r"\bgreater than\b"), "more than"),
    (re.compile(r"\ba valid\b"), "a"),
    (re.compile(r"\b1 item( after validation)?\b"), "1 entry"),
    (re.compile(r"\bitems?\b( after validation)?"), "entries"),
)


def in_words(problem: Mapping[str, Any]) -> str:
    """What is wrong with a value, as one of a `ValidationError`'s errors says it: to be read after the value's name."""
    kind = str(problem.get("type", ""))  # What we say ourselves has none, and is in our words already.
    text = _TEXTS.get(kind) or _TEXTS.get(kind.partition("_")[0])
    if text is not None:
        return text
    message = str(problem["msg"])
    if kind in {"value_error", "assertion_error"}:
        return message.partition(", ")[2]
    for pattern, words in _REPLACED:
        message = pattern.sub(words, message)
    return f"{message[:1].lower()}{message[1:]}"
