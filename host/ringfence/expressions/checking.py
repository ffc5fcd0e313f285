"""Checks an expression against what is known of the names that it may use. Pure.

What is not known fits everything. What is known is taken at its word: a field that a model does not have, a text that
is none of an enumeration's, a sum of a number and a text are wrong when they are written, not when they are evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence

from ringfence.expressions.computing import functions
from ringfence.expressions.computing.overloads import ANY, Overload
from ringfence.expressions.computing.values import (
    BOOL,
    DOUBLE,
    INT,
    LIST,
    MAP,
    NULL,
    NUMBERS,
    STRING,
    TYPE,
    UINT,
    kind_of,
)
from ringfence.expressions.errors import ExpressionError, at
from ringfence.expressions.near_names import near
from ringfence.expressions.schema import ANYTHING, Elements, Record, Scalar, Schema, Scope
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

_PAIRED = ("==", "!=")
_KEYS = frozenset({INT, UINT, DOUBLE, BOOL, STRING})


class Checker:
    """Checks one text. `numbers` are then the parts that are fractions by their schema, also where JSON has a 2."""

    def __init__(self, text: str, scope: Scope) -> None:
        self._text = text
        self._scope = scope
        self._inner: dict[str, Schema] = {}
        self.numbers: set[Node] = set()
        self.used: set[tuple[str, ...]] = set()
        """What is used of the scope: a name, and the fields of it that are written after it."""

    def check(self, node: Node) -> Schema:
        """What is known of its value. Raises `ExpressionError`."""
        found = self._of(node)
        if isinstance(node, Name | Select | Index) and found.kinds == frozenset({DOUBLE}):
            self.numbers.add(node)
        return found

    def _of(self, node: Node) -> Schema:
        match node:
            case Literal():
                return Schema.of_kind(kind_of(node.value))
            case Name():
                return self._name(node)
            case Select():
                self._note(node)
                return self._field(node.place, node.operand, self.check(node.operand), node.field)
            case Has():
                self._note(node)
                self._field(node.place, node.operand, self.check(node.operand), node.field)
                return Schema.of_kind(BOOL)
            case Index():
                return self._index(node)
            case Call():
                return self._call(node)
            case Chain():
                left = self.check(node.first)
                for sign, place, operand in node.rest:
                    left = self._applied(place, sign, (left, self.check(operand)), method=False)
                return left
            case Logic():
                for operand in node.operands:
                    self._require(operand, BOOL, self.check(operand), "||" if node.decides else "&&")
                return Schema.of_kind(BOOL)
            case Conditional():
                for condition, _ in node.arms:
                    self._require(condition, BOOL, self.check(condition), "?")
                values = [value for _, value in node.arms]
                return Schema.either([self.check(value) for value in (*values, node.otherwise)])
            case ListOf():
                items = [self.check(item) for item in node.items]
                return Schema.list_of(Schema.either(items) if items else ANYTHING)
            case MapOf():
                return self._map(node)
            case Each():
                return self._each(node)

    def _name(self, node: Name) -> Schema:
        if (inner := self._inner.get(node.name)) is not None:
            return inner
        if (found := self._scope.get(node.name)) is not None:
            self.used.add((node.name,))
            return found
        if node.name in functions.TYPES:
            return Schema.of_kind(TYPE)
        names = {*self._scope, *self._inner}
        raise self._wrong(node.place, f"{node.name} is not known here: {near(node.name, names)}")

    def _note(self, node: Select | Has) -> None:
        path: list[str] = [node.field]
        operand = node.operand
        while isinstance(operand, Select):
            path.append(operand.field)
            operand = operand.operand
        if isinstance(operand, Name) and operand.name in self._scope and operand.name not in self._inner:
            self.used.add((operand.name, *reversed(path)))

    def _field(self, place: Place, operand: Node, schema: Schema, name: str) -> Schema:
        """What is known of a field. Raises `ExpressionError` when none of what the operand may be has it."""
        if schema.shapes is None:
            return ANYTHING
        records = [shape for shape in schema.shapes if isinstance(shape, Record)]
        found = [one for record in records if (one := record.fields.get(name, record.rest)) is not None]
        if found:
            return Schema.either(found)
        what = self._source(operand)
        if not records:
            raise self._wrong(place, f"{what} is {schema.describe()}, which has no fields")
        names = {field for record in records for field in record.fields}
        raise self._wrong(place, f"{what} has no field {name}: {near(name, names)}")

    def _index(self, node: Index) -> Schema:
        operand, key = self.check(node.operand), self.check(node.key)
        if operand.shapes is None:
            return ANYTHING
        if isinstance(node.key, Literal) and isinstance(node.key.value, str) and MAP in (operand.kinds or ()):
            return self._field(node.place, node.operand, operand, node.key.value)
        found: list[Schema] = []
        for shape in operand.shapes:
            if isinstance(shape, Elements) and _may_be(key, NUMBERS):
                found.append(shape.items)
            elif isinstance(shape, Record) and _may_be(key, _KEYS):
                found.extend(shape.fields.values())
                found.extend([] if shape.rest is None else [shape.rest])
        if found:
            return Schema.either(found)
        what = self._source(node.operand)
        if not _may_be(operand, frozenset({LIST, MAP})):
            raise self._wrong(node.place, f"{what} is {operand.describe()}, which has no elements")
        raise self._wrong(node.place, f"{what} has nothing by a key that is {key.describe()}")

    def _call(self, node: Call) -> Schema:
        if node.function in (*_PAIRED, "in"):
            left, right = (self.check(one) for one in node.arguments)
            if node.function == "in":
                self._check_in(node, left, right)
            else:
                self._check_comparable(node.place, node.arguments[0], left, node.arguments[1], right)
            return Schema.of_kind(BOOL)
        arguments = tuple(self.check(one) for one in node.arguments)
        if node.function == "matches" and isinstance(node.arguments[-1], Literal):
            self._check_pattern(node.arguments[-1])
        if node.function == "dyn" and len(arguments) == 1:
            return ANYTHING
        return self._applied(node.place, node.function, arguments, method=node.is_method)

    def _applied(self, place: Place, name: str, arguments: Sequence[Schema], *, method: bool) -> Schema:
        named = functions.TABLE.of(name, method=method)
        if not named:
            others = functions.TABLE.names(method=method)
            raise self._wrong(place, f"there is no function {name}: {near(name, others)}")
        right = [one for one in named if len(one.takes) == len(arguments)]
        if not right:
            counts = sorted({len(one.takes) - method for one in named})
            raise self._wrong(place, f"{name} takes {' or '.join(map(str, counts))} arguments")
        fitting = [one for one in right if _fits(one, arguments)]
        if not fitting:
            raise self._wrong(place, _unfit(name, arguments, method=method))
        return Schema.either([_given(one, arguments) for one in fitting])

    def _check_in(self, node: Call, left: Schema, right: Schema) -> None:
        if not _may_be(right, frozenset({LIST, MAP})):
            what = self._source(node.arguments[1])
            raise self._wrong(node.place, f"{what} is {right.describe()}: in needs a list or a map")
        if isinstance(listed := node.arguments[1], ListOf):
            for item in listed.items:
                self._check_comparable(item.place, node.arguments[0], left, item, self.check(item))

    def _check_comparable(
        self, place: Place, left_node: Node, left: Schema, right_node: Node, right: Schema
    ) -> None:
        for node, schema, other in ((left_node, left, right_node), (right_node, right, left_node)):
            among = _among(schema)
            if among is None or not isinstance(other, Literal) or not isinstance(other.value, str):
                continue
            if other.value not in among:
                known = ", ".join(f'"{one}"' for one in among)
                hint = near(other.value, among)
                also = f": {hint}" if hint.startswith("did") else ""
                raise self._wrong(
                    other.place, f'{self._source(node)} is never "{other.value}"{also} (it is one of {known})'
                )
        if left.kinds is None or right.kinds is None:
            return
        if NULL in left.kinds | right.kinds or left.kinds & right.kinds:
            return
        if left.kinds & NUMBERS and right.kinds & NUMBERS:
            return
        raise self._wrong(
            place,
            f"{self._source(left_node)} is {left.describe()}, and {self._source(right_node)} is {right.describe()}: "
            "these are never equal",
        )

    def _check_pattern(self, node: Literal) -> None:
        if isinstance(node.value, str):
            try:
                functions.compiled(node.value)
            except ValueError as error:
                raise self._wrong(node.place, f"{self._source(node)} {error}") from None

    def _map(self, node: MapOf) -> Schema:
        fields: dict[str, Schema] = {}
        others: list[Schema] = []
        for key, value in node.entries:
            kinds = self.check(key)
            if not _may_be(kinds, _KEYS):
                raise self._wrong(
                    key.place, f"{self._source(key)} is {kinds.describe()}, which no key can be"
                )
            schema = self.check(value)
            if isinstance(key, Literal) and isinstance(key.value, str):
                if key.value in fields:
                    raise self._wrong(key.place, f"{self._source(key)} is there twice")
                fields[key.value] = schema
            else:
                others.append(schema)
        return Schema.record(fields, rest=Schema.either(others) if others else None)

    def _each(self, node: Each) -> Schema:
        over = self.check(node.over)
        elements: list[Schema] = []
        for shape in over.shapes or ():
            if isinstance(shape, Elements):
                elements.append(shape.items)
            elif isinstance(shape, Record):
                elements.append(ANYTHING if shape.rest is not None else Schema.of_kind(STRING))
        if over.shapes is not None and not elements:
            what = self._source(node.over)
            raise self._wrong(node.place, f"{what} is {over.describe()}: {node.macro} needs a list or a map")
        before = self._inner
        self._inner = {**before, node.variable: Schema.either(elements) if elements else ANYTHING}
        try:
            if node.condition is not None:
                self._require(node.condition, BOOL, self.check(node.condition), node.macro)
            made = None if node.transform is None else self.check(node.transform)
            element = self._inner[node.variable]
        finally:
            self._inner = before
        if node.macro == "map":
            return Schema.list_of(made or ANYTHING)
        return Schema.list_of(element) if node.macro == "filter" else Schema.of_kind(BOOL)

    def _require(self, node: Node, kind: str, schema: Schema, by: str) -> None:
        if not _may_be(schema, frozenset({kind})):
            what = self._source(node)
            raise self._wrong(
                node.place, f"{what} is {schema.describe()}: {by} needs something that is true or false"
            )

    def _source(self, node: Node) -> str:
        text = " ".join(self._text[node.place.offset : node.place.end].split())
        return text if len(text) <= 60 else f"{text[:57]}…"

    def _wrong(self, place: Place, message: str) -> ExpressionError:
        return ExpressionError(message, *at(self._text, place.offset))


def _may_be(schema: Schema, kinds: frozenset[str]) -> bool:
    return schema.kinds is None or not schema.kinds.isdisjoint(kinds)


def _among(schema: Schema) -> tuple[str, ...] | None:
    """The texts that it may be, if it can be nothing else but null."""
    if schema.shapes is None:
        return None
    found: list[str] = []
    for shape in schema.shapes:
        if not isinstance(shape, Scalar):
            return None
        if shape.kind == STRING and shape.among is not None:
            found += shape.among
        elif shape.kind != NULL:
            return None
    return tuple(found) or None


def _fits(overload: Overload, arguments: Sequence[Schema]) -> bool:
    return all(
        wanted == ANY or schema.kinds is None or wanted in schema.kinds
        for wanted, schema in zip(overload.takes, arguments, strict=True)
    )


def _given(overload: Overload, arguments: Sequence[Schema]) -> Schema:
    if overload.gives_each is not None:
        return Schema.list_of(Schema.of_kind(overload.gives_each))
    if overload.gives == ANY:
        return ANYTHING
    if overload.gives == LIST and overload.takes == (LIST, LIST):
        items = [
            shape.items for one in arguments for shape in one.shapes or () if isinstance(shape, Elements)
        ]
        if all(one.shapes is not None for one in arguments) and items:
            return Schema.list_of(Schema.either(items))
    return Schema.of_kind(overload.gives)


def _unfit(name: str, arguments: Sequence[Schema], *, method: bool) -> str:
    words = [one.describe() for one in arguments]
    if method:
        given = f" with {', '.join(words[1:])}" if words[1:] else ""
        return f"{name} is not for {words[0]}{given}"
    if name[0].isalpha():
        return f"{name} does not take {', '.join(words)}"
    if len(words) == 1:
        return f"{name.removesuffix('_')} is not for {words[0]}"
    kinds = [one.kinds or frozenset() for one in arguments]
    hint = ""
    if all(one & NUMBERS for one in kinds) or (STRING in kinds[0] | kinds[1] and name == "+"):
        wanted = "string" if any(STRING in one for one in kinds) else "double"
        hint = f": write {wanted}(…) around the other"
    return f"{words[0]} {name} {words[1]} is not possible{hint}"
