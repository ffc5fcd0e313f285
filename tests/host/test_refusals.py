"""What a model refuses is told in words that need no knowledge of the library which found it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError
from ringfence.refusals import in_words


class Colour(StrEnum):
    """Something with few values."""

    RED = "red"
    BLUE = "blue"


REFUSED = [
    (int, "many", "must be a whole number"),
    (int, 1.5, "must be a whole number"),
    (float, "many", "must be a number"),
    (bool, "perhaps", "must be true or false"),
    (str, 1, "must be a text"),
    (list[int], "x", "must be a list"),
    (dict[str, int], "x", "must be a JSON object"),
    (Annotated[int, Field(ge=1)], 0, "must be at least 1"),
    (Annotated[int, Field(gt=0)], 0, "must be more than 0"),
    (Annotated[int, Field(le=5)], 6, "must be at most 5"),
    (Annotated[str, Field(max_length=2)], "abc", "must have at most 2 characters"),
    (Annotated[list[int], Field(max_length=1)], [1, 2], "must have at most 1 entry, not 2"),
    (Literal["a", "b"], "c", "must be 'a' or 'b'"),
    (Colour, "green", "must be 'red' or 'blue'"),
    (AwareDatetime, "2030-01-01T00:00:00", "must say its time zone, as in 2030-01-01T20:00:00Z"),
]


@pytest.mark.parametrize(("kind", "value", "words"), REFUSED)
@pytest.mark.parametrize("with_context", [True, False])
def test_each_kind_of_refusal_is_a_plain_sentence(
    kind: Any, value: object, words: str, with_context: bool
) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(kind).validate_python(value)
    [problem] = refused.value.errors(include_context=with_context)
    assert in_words(problem) == words
