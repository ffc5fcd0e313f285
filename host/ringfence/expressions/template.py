"""Texts in which `{{ expression }}` stands for what that comes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ringfence.expressions.computing.budget import Budget
from ringfence.expressions.computing.values import NotAValueError, text_of
from ringfence.expressions.errors import ExpressionError, LimitError, at
from ringfence.expressions.expression import TOO_DEEP, Expression
from ringfence.expressions.schema import Scope
from ringfence.expressions.syntax.parser import parse_marked

OPENING = "{{"
MAX_MARKED = 100
"""How many expressions one text has at most."""


class Template:
    """One text. Made by `parse`. `{{ "{{" }}` stands for two braces; all else outside of braces is itself."""

    __slots__ = ("_parts", "text", "used")

    def __init__(self, text: str, parts: tuple[str | Expression, ...]) -> None:
        self.text = text
        self._parts = parts
        self.used = frozenset(one for part in parts if isinstance(part, Expression) for one in part.used)
        """What it uses of the scope: names, and the fields that are written after them."""

    @classmethod
    def parse(cls, text: str, scope: Scope) -> Template:
        """Read a text whose expressions may use the names of `scope`.

        Raises:
            ExpressionError: for what can be told from the text.
        """
        parts: list[str | Expression] = []
        place = count = 0
        while (opening := text.find(OPENING, place)) >= 0:
            count += 1
            if count > MAX_MARKED:
                raise LimitError(f"a text has at most {MAX_MARKED} expressions", *at(text, opening))
            if opening > place:
                parts.append(text[place:opening])
            try:
                node, place = parse_marked(text, opening + len(OPENING))
                parts.append(Expression.of(node, text, scope))
            except RecursionError:
                raise LimitError(TOO_DEEP, *at(text, opening)) from None
        if place < len(text):
            parts.append(text[place:])
        return cls(text, tuple(parts))

    @property
    def is_plain(self) -> bool:
        """Whether nothing is filled in."""
        return not any(isinstance(part, Expression) for part in self._parts)

    def render(self, values: Mapping[str, Any]) -> str:
        """The text with what its expressions come to.

        Null is nothing, lists and maps are compact JSON.

        Raises:
            ExpressionError: if one cannot be computed; all of them together have the steps of one expression.
        """
        if self.is_plain:
            return self.text
        budget = Budget()
        found: list[str] = []
        for part in self._parts:
            if isinstance(part, str):
                found.append(part)
                continue
            try:
                text = text_of(part.compute(values, budget), budget)
            except NotAValueError as error:
                raise ExpressionError(str(error)) from None
            except RecursionError:
                raise LimitError(TOO_DEEP) from None
            budget.spend_text(len(text))
            found.append(text)
        return "".join(found)
