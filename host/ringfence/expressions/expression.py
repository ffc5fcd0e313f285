"""Expressions: read and checked once, evaluated as often as needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from ringfence.expressions.checking import Checker
from ringfence.expressions.computing.budget import Budget
from ringfence.expressions.computing.evaluation import Compiler, Frame, Run
from ringfence.expressions.computing.values import BOOL, LIST, STRING, NotAValueError, Value, kind_of, to_json
from ringfence.expressions.errors import ExpressionError, LimitError, MissingError
from ringfence.expressions.schema import Schema, Scope
from ringfence.expressions.syntax.nodes import Node
from ringfence.expressions.syntax.parser import parse

Returns: TypeAlias = Literal["bool", "any", "list", "text"]
"""What an expression must come to."""
_KINDS = {"bool": BOOL, "list": LIST, "text": STRING}
_WORDS = {"bool": "true or false", "list": "a list", "text": "a text"}
TOO_DEEP = "the expression, or what it is about, is nested too deep"


class Expression:
    """One expression. Made by `parse`."""

    __slots__ = ("_returns", "_run", "schema", "text", "used")

    def __init__(
        self, text: str, run: Run, schema: Schema, returns: Returns, used: frozenset[tuple[str, ...]]
    ) -> None:
        self.text = text
        self.schema = schema
        """What is known of its value."""
        self.used = used
        """What it uses of the scope: names, and the fields that are written after them: ("event", "labels", "env")."""
        self._run = run
        self._returns = returns

    @classmethod
    def parse(cls, text: str, scope: Scope, returns: Returns = "any") -> Expression:
        """Read an expression that may use the names of `scope`, and comes to what `returns` says.

        Raises:
            ExpressionError: for what can be told from its text: where, what, and which names there are.
        """
        try:
            return cls.of(parse(text), text, scope, returns)
        except RecursionError:
            raise LimitError(TOO_DEEP) from None

    @classmethod
    def of(cls, node: Node, text: str, scope: Scope, returns: Returns = "any") -> Expression:
        """The expression whose tree `node` is. Raises as `parse` does."""
        checker = Checker(text, scope)
        schema = checker.check(node)
        wanted = _KINDS.get(returns)
        if wanted is not None and schema.kinds is not None and wanted not in schema.kinds:
            raise ExpressionError(f"this is {schema.describe()}, and must be {_WORDS[returns]}")
        run = Compiler(text, checker.numbers).compiled(node)
        return cls(text, run, schema, returns, frozenset(checker.used))

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """What it comes to as JSON, if names stand for these values of JSON.

        Raises:
            ExpressionError: if it cannot be computed, or takes too long (see `budget`).
        """
        budget = Budget()
        value = self.compute(values, budget)
        try:
            return to_json(value, budget)
        except NotAValueError as error:
            raise ExpressionError(str(error)) from None
        except RecursionError:
            raise LimitError(TOO_DEEP) from None

    def matches(self, values: Mapping[str, Any]) -> bool:
        """Whether it holds, for a filter: what asks for a field or a key that is not there does not match.

        Raises:
            ExpressionError: for whatever else is wrong.
        """
        try:
            return self.evaluate(values) is True
        except MissingError:
            return False

    def compute(self, values: Mapping[str, Any], budget: Budget) -> Value:
        """As `evaluate`, with a value of the language's own for its answer, and what is left to spend."""
        try:
            value = self._run(Frame(values, budget))
            kind = kind_of(value)
        except NotAValueError as error:
            raise ExpressionError(str(error)) from None
        except RecursionError:
            raise LimitError(TOO_DEEP) from None
        if self._returns != "any" and kind != _KINDS[self._returns]:
            raise ExpressionError(f"this is {kind}, and must be {_WORDS[self._returns]}")
        return value
