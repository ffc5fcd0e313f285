"""Reads an expression into a tree, by the grammar of the Common Expression Language (CEL). Pure.

https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax. Left out are messages of protocol buffers
(`Type{field: 1}`), which JSON has none of, and the optional values of newer versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from ringfence.expressions.computing.values import MAX_INT
from ringfence.expressions.errors import ExpressionError, LimitError, at
from ringfence.expressions.syntax.lexer import RESERVED, Kind, Token, tokens
from ringfence.expressions.syntax.nodes import (
    Call,
    Chain,
    Conditional,
    Each,
    Has,
    Index,
    ListOf,
    Literal,
    Logic,
    MapOf,
    Name,
    Node,
    Place,
    Select,
)

MAX_DEPTH = 40
"""How deep expressions may be nested. The recursion of parser, checker and evaluation is bounded by it."""
MAX_TEXT = 16_000
"""How many characters an expression has at most."""
RELATIONS = ("==", "!=", "<", "<=", ">", ">=")
MACROS = {"all": (2,), "exists": (2,), "exists_one": (2,), "existsOne": (2,), "filter": (2,), "map": (2, 3)}
"""Macros over lists and maps, and how many arguments they take."""
_Operand: TypeAlias = Callable[[], Node]
_NOT_OURS = {"and": "&&", "or": "||", "not": "!", "is": "=="}


def parse(text: str) -> Node:
    """The tree of an expression. Raises `ExpressionError`."""
    parser = Parser(text)
    node = parser.expression()
    if parser.token.kind is not Kind.END:
        raise parser.failed_here()
    return node


def parse_marked(text: str, start: int) -> tuple[Node, int]:
    """The tree of an expression that begins at `start` and ends with `}}`, and where the text goes on behind that."""
    parser = Parser(text, start)
    node = parser.expression()
    closing = parser.token
    if not parser.is_sign("}") or text[closing.end : closing.end + 1] != "}":
        raise parser.failed_here("}}")
    return node, closing.end + 1


class Parser:
    """Reads words one after another; `token` is the one that comes next."""

    def __init__(self, text: str, start: int = 0) -> None:
        if len(text) - start > MAX_TEXT:
            raise LimitError(f"the text is longer than {MAX_TEXT} characters", *at(text, start))
        self._text = text
        self._tokens: Iterator[Token] = tokens(text, start)
        self._end = start
        self._depth = 0
        self.token = next(self._tokens)

    def expression(self) -> Node:
        """`a ? b : c`, or what binds closer."""
        start = self.token.offset
        self._deeper(start)
        arms: list[tuple[Node, Node]] = []
        node = self._logic()
        while self._take("?"):
            value = self._logic()
            self._expect(":")
            arms.append((node, value))
            node = self._logic()
        self._depth -= 1
        if not arms:
            return node
        parts = [one for arm in arms for one in arm]
        return Conditional(self._place(start, *parts, node), tuple(arms), node)

    def _logic(self) -> Node:
        return self._operands("||", True, lambda: self._operands("&&", False, self._relation))

    def _operands(self, sign: str, decides: bool, operand: _Operand) -> Node:
        start = self.token.offset
        operands = [operand()]
        while self._take(sign):
            operands.append(operand())
        if len(operands) == 1:
            return operands[0]
        return Logic(self._place(start, *operands), decides, tuple(operands))

    def _relation(self) -> Node:
        start = self.token.offset
        node = self._sum()
        while (sign := self._relation_sign()) is not None:
            self._advance()
            right = self._sum()
            node = Call(self._place(start, node, right), sign, (node, right))
        return node

    def _relation_sign(self) -> str | None:
        if self.token.kind is Kind.NAME and self.token.text == "in":
            return "in"
        return self.token.text if self.token.kind is Kind.SIGN and self.token.text in RELATIONS else None

    def _sum(self) -> Node:
        return self._chain(("+", "-"), self._product)

    def _product(self) -> Node:
        return self._chain(("*", "/", "%"), self._unary)

    def _chain(self, signs: tuple[str, ...], operand: _Operand) -> Node:
        start = self.token.offset
        first = operand()
        rest: list[tuple[str, Place, Node]] = []
        while self.token.kind is Kind.SIGN and self.token.text in signs:
            sign, place = self.token.text, Place(self.token.offset, self.token.end)
            self._advance()
            rest.append((sign, place, operand()))
        if not rest:
            return first
        return Chain(self._place(start, first, *(node for _, _, node in rest)), first, tuple(rest))

    def _unary(self) -> Node:
        start = self.token.offset
        if not (self.is_sign("!") or self.is_sign("-")):
            return self._member()
        sign = self.token.text
        signs = 0
        while self._take(sign):
            signs += 1
            if signs > MAX_DEPTH:
                raise LimitError("the expression is nested too deep", *at(self._text, start))
        is_number = sign == "-" and self.token.kind is Kind.LITERAL and type(self.token.value) in (int, float)
        if is_number:
            # A sign belongs to the number, so that the least one can be written.
            number = self.token
            self._advance()
            signs -= 1
            node = self._postfix(Literal(Place(start, number.end), -number.value), start)
        else:
            node = self._member()
        for _ in range(signs):
            node = Call(self._place(start, node), "-_" if sign == "-" else "!", (node,))
        return node

    def _member(self) -> Node:
        start = self.token.offset
        return self._postfix(self._primary(), start)

    def _postfix(self, node: Node, start: int) -> Node:
        while True:
            if self._take("["):
                key = self.expression()
                self._expect("]")
                node = Index(self._place(start, node, key), node, key)
            elif self._take("."):
                field = self.token
                if field.kind is Kind.LITERAL and field.text in ("true", "false", "null"):
                    raise self.failed_here("a field")
                if field.kind not in (Kind.NAME, Kind.QUOTED_NAME):
                    raise self.failed_here("a field")
                self._advance()
                if field.kind is Kind.NAME and self._take("("):
                    node = self._method(node, field, start)
                else:
                    node = Select(self._place(start, node), node, field.text)
            elif self.is_sign("{") and isinstance(node, Name | Select):
                raise ExpressionError(
                    "there are no messages here: write a map as {…} alone", *at(self._text, self.token.offset)
                )
            else:
                return node

    def _method(self, operand: Node, name: Token, start: int) -> Node:
        arguments = self._arguments(")")
        if name.text in MACROS and len(arguments) in MACROS[name.text]:
            return self._macro(operand, name, arguments, start)
        if name.text in MACROS:
            count = " or ".join(map(str, MACROS[name.text]))
            raise ExpressionError(f"{name.text} takes {count} arguments", *at(self._text, name.offset))
        place = self._place(start, operand, *arguments)
        return Call(place, name.text, (operand, *arguments), is_method=True)

    def _macro(self, over: Node, name: Token, arguments: tuple[Node, ...], start: int) -> Node:
        variable = arguments[0]
        if not isinstance(variable, Name):
            raise ExpressionError(
                f"{name.text} takes the name of a variable first", *at(self._text, variable.place.offset)
            )
        place = self._place(start, over, *arguments)
        macro = "exists_one" if name.text == "existsOne" else name.text
        if macro != "map":
            return Each(place, macro, over, variable.name, arguments[1], None)
        condition = arguments[1] if len(arguments) == 3 else None
        return Each(place, macro, over, variable.name, condition, arguments[-1])

    def _primary(self) -> Node:
        token = self.token
        if token.kind is Kind.LITERAL:
            if type(token.value) is int and token.value > MAX_INT:
                raise ExpressionError(
                    "the number is too large: a whole one has 64 bits", *at(self._text, token.offset)
                )
            self._advance()
            return Literal(Place(token.offset, token.end), token.value)
        if token.kind is Kind.NAME and token.text != "in":
            return self._name(token)
        if self._take("("):
            node = self.expression()
            self._expect(")")
            return node
        if self._take("["):
            items = self._arguments("]")
            return ListOf(self._place(token.offset, *items), items)
        if self._take("{"):
            return self._map(token.offset)
        if self.is_sign("."):
            raise ExpressionError("a name begins with a letter", *at(self._text, token.offset))
        raise self.failed_here("a value")

    def _name(self, token: Token) -> Node:
        if token.text in RESERVED:
            raise ExpressionError(
                f"{token.text} is a word that cannot be a name", *at(self._text, token.offset)
            )
        self._advance()
        if not self._take("("):
            return Name(Place(token.offset, token.end), token.text)
        arguments = self._arguments(")")
        if token.text != "has":
            return Call(self._place(token.offset, *arguments), token.text, arguments)
        if len(arguments) != 1 or not isinstance(arguments[0], Select):
            raise ExpressionError(
                "has takes one field, as in has(event.message)", *at(self._text, token.offset)
            )
        field = arguments[0]
        return Has(self._place(token.offset, field.operand), field.operand, field.field)

    def _arguments(self, closing: str) -> tuple[Node, ...]:
        found: list[Node] = []
        while not self._take(closing):
            if found:
                self._expect(",")
                if closing == "]" and self._take(closing):
                    break
            found.append(self.expression())
        return tuple(found)

    def _map(self, start: int) -> Node:
        entries: list[tuple[Node, Node]] = []
        while not self._take("}"):
            if entries:
                self._expect(",")
                if self._take("}"):
                    break
            key = self.expression()
            self._expect(":")
            entries.append((key, self.expression()))
        parts = [one for entry in entries for one in entry]
        return MapOf(self._place(start, *parts), tuple(entries))

    def _place(self, start: int, *parts: Node) -> Place:
        depth = 1 + max((part.place.depth for part in parts), default=0)
        if depth > MAX_DEPTH:
            raise LimitError("the expression is nested too deep", *at(self._text, start))
        return Place(start, self._end, depth)

    def _deeper(self, start: int) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise LimitError("the expression is nested too deep", *at(self._text, start))

    def is_sign(self, sign: str) -> bool:
        """Whether this sign comes next."""
        return self.token.kind is Kind.SIGN and self.token.text == sign

    def _take(self, sign: str) -> bool:
        if not self.is_sign(sign):
            return False
        self._advance()
        return True

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise self.failed_here(sign)

    def _advance(self) -> None:
        self._end = self.token.end
        self.token = next(self._tokens)

    def failed_here(self, expected: str | None = None) -> ExpressionError:
        """What to raise where what comes next does not fit."""
        token = self.token
        if token.kind is Kind.END:
            message = "the expression ends too early" + (
                "" if expected is None else f": {expected} is missing"
            )
        elif token.text in _NOT_OURS:
            message = f"write {_NOT_OURS[token.text]} for {token.text}"
        else:
            message = f"{token.text[:40]} cannot stand here" + (
                "" if expected is None else f": {expected} is missing"
            )
        return ExpressionError(message, *at(self._text, token.offset))
