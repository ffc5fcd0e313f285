"""What is wrong with an expression, and where."""

from __future__ import annotations


class ExpressionError(ValueError):
    """An expression is wrong, or has failed. `line` and `column` (from 1) say where in its text."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


class MissingError(ExpressionError):
    """A value was asked for something that it does not have: a field, a key, an element."""


class LimitError(ExpressionError):
    """An expression is too large, or takes too long. No `||` passes over this."""


def at(text: str, offset: int) -> tuple[int, int]:
    """The line and the column, from 1, of a place in a text."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
