"""Evaluates a checked expression. Every part becomes a function of the values and of what is left to spend.

The semantics are those of the language's definition: `&&` and `||` pass over what fails if the other operand decides,
numbers of different kinds compare by their value, and nothing is converted by itself, except that a number which is a
fraction by its schema is one also where JSON has 2 for 2.0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ringfence.expressions.computing.budget import Budget
from ringfence.expressions.computing.equality import are_equal, contains
from ringfence.expressions.computing.functions import TABLE, TYPES
from ringfence.expressions.computing.values import (
    MAX_INT,
    MIN_INT,
    NotAValueError,
    TruthKey,
    UInt,
    Value,
    kind_of,
)
from ringfence.expressions.errors import ExpressionError, LimitError, MissingError, at
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

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Frame:
    """The values that names stand for, and what may still be spent."""

    values: Mapping[str, Value]
    budget: Budget


Run: TypeAlias = Callable[[Frame], Value]


class Compiler:
    """Makes functions of the parts of one text. `numbers` are those that are fractions by their schema."""

    def __init__(self, text: str, numbers: Collection[Node]) -> None:
        self._text = text
        self._numbers = numbers

    def compiled(self, node: Node) -> Run:
        """The function that computes this part."""
        run = self._of(node)
        if node not in self._numbers:
            return run

        def fraction(frame: Frame) -> Value:
            value = run(frame)
            return float(value) if type(value) is int else value

        return fraction

    def _of(self, node: Node) -> Run:
        match node:
            case Literal(value=value):
                return lambda frame: _spent(frame, value)
            case Name():
                return self._name(node)
            case Select():
                return self._select(node)
            case Has():
                return self._has(node)
            case Index():
                return self._index(node)
            case Call():
                return self._call(node)
            case Chain():
                return self._chain(node)
            case Logic():
                return self._logic(node)
            case Conditional():
                return self._conditional(node)
            case ListOf(items=items):
                runs = [self.compiled(item) for item in items]
                return lambda frame: _spent(frame, [run(frame) for run in runs])
            case MapOf():
                return self._map(node)
            case Each():
                return self._each(node)

    def _name(self, node: Name) -> Run:
        def look_up(frame: Frame) -> Value:
            frame.budget.spend(1)
            value = frame.values.get(node.name, _ABSENT)
            if value is not _ABSENT:
                return _native(value)
            if node.name in TYPES:
                return TYPES[node.name]
            raise self._missing(node.place, f"{node.name} is not there")

        return look_up

    def _select(self, node: Select) -> Run:
        operand, field = self.compiled(node.operand), node.field

        def select(frame: Frame) -> Value:
            frame.budget.spend(1)
            record = operand(frame)
            if not isinstance(record, dict):
                raise self._failed(
                    node.place, f"{self._source(node.operand)} is {_kind(record)}, which has no fields"
                )
            value = record.get(field, _ABSENT)
            if value is _ABSENT:
                raise self._missing(node.place, f"{self._source(node.operand)} has no {field}")
            return _native(value)

        return select

    def _has(self, node: Has) -> Run:
        operand, field = self.compiled(node.operand), node.field

        def has(frame: Frame) -> Value:
            frame.budget.spend(1)
            record = operand(frame)
            if not isinstance(record, dict):
                raise self._failed(
                    node.place, f"{self._source(node.operand)} is {_kind(record)}, which has no fields"
                )
            return field in record

        return has

    def _index(self, node: Index) -> Run:
        operand, key = self.compiled(node.operand), self.compiled(node.key)

        def index(frame: Frame) -> Value:
            frame.budget.spend(1)
            whole, wanted = operand(frame), key(frame)
            if isinstance(whole, list):
                if not isinstance(wanted, int | float) or isinstance(wanted, bool) or wanted != wanted // 1:
                    raise self._failed(node.place, f"a list has nothing by a key that is {_kind(wanted)}")
                if not 0 <= wanted < len(whole):
                    raise self._missing(
                        node.place, f"the list has {len(whole)} elements, and none at {wanted}"
                    )
                return _native(whole[int(wanted)])
            if isinstance(whole, dict):
                value = whole.get(as_key(wanted), _ABSENT)
                if value is _ABSENT:
                    raise self._missing(node.place, f"{self._source(node.operand)} has no {_shown(wanted)}")
                return _native(value)
            raise self._failed(
                node.place, f"{self._source(node.operand)} is {_kind(whole)}, which has no elements"
            )

        return index

    def _call(self, node: Call) -> Run:
        runs = [self.compiled(one) for one in node.arguments]
        place, name, method = node.place, node.function, node.is_method
        if name in ("==", "!="):
            left, right = runs
            wanted = name == "=="
            return lambda frame: self._guarded(
                place, lambda: are_equal(left(frame), right(frame), frame.budget) is wanted
            )
        if name == "in":
            item, whole = runs
            return lambda frame: self._guarded(
                place, lambda: contains(whole(frame), item(frame), frame.budget)
            )

        def call(frame: Frame) -> Value:
            frame.budget.spend(1)
            return self._applied(frame, place, name, [run(frame) for run in runs], method=method)

        return call

    def _chain(self, node: Chain) -> Run:
        first = self.compiled(node.first)
        rest = [(sign, place, self.compiled(operand)) for sign, place, operand in node.rest]

        def fold(frame: Frame) -> Value:
            value = first(frame)
            for sign, place, operand in rest:
                frame.budget.spend(1)
                value = self._applied(frame, place, sign, [value, operand(frame)], method=False)
            return value

        return fold

    def _applied(self, frame: Frame, place: Place, name: str, given: list[Value], *, method: bool) -> Value:
        try:
            kinds = tuple(map(kind_of, given))
            overload = TABLE.find(name, kinds, method=method)
            if overload is None:
                words = ", ".join(kinds)
                raise self._failed(place, f"{name.removesuffix('_')} is not possible with {words}")
            return overload.compute(frame.budget, *given)
        except ExpressionError:
            raise
        except (ValueError, OverflowError) as error:
            raise self._failed(place, f"{self._told(place)} {error}") from None

    def _logic(self, node: Logic) -> Run:
        runs = [(one.place, self.compiled(one)) for one in node.operands]
        decides, sign = node.decides, "||" if node.decides else "&&"

        def decide(frame: Frame) -> Value:
            failure: ExpressionError | None = None
            for place, run in runs:
                frame.budget.spend(1)
                try:
                    value = self._truth(place, run(frame), sign)
                except LimitError:
                    raise
                except ExpressionError as error:
                    failure = failure or error
                else:
                    if value is decides:
                        return decides
            if failure is not None:
                raise failure
            return not decides

        return decide

    def _conditional(self, node: Conditional) -> Run:
        arms = [(one.place, self.compiled(one), self.compiled(value)) for one, value in node.arms]
        otherwise = self.compiled(node.otherwise)

        def choose(frame: Frame) -> Value:
            for place, condition, value in arms:
                frame.budget.spend(1)
                if self._truth(place, condition(frame), "?"):
                    return value(frame)
            return otherwise(frame)

        return choose

    def _map(self, node: MapOf) -> Run:
        entries = [(key.place, self.compiled(key), self.compiled(value)) for key, value in node.entries]

        def make(frame: Frame) -> Value:
            made: dict[Value, Value] = {}
            for place, key, value in entries:
                frame.budget.spend(1)
                name = as_key(key(frame))
                if name is None:
                    raise self._failed(place, "this can be no key of a map")
                if name in made:
                    raise self._failed(place, f"the key {_shown(name)} is there twice")
                made[name] = value(frame)
            return made

        return make

    def _each(self, node: Each) -> Run:
        over, place, variable, macro = self.compiled(node.over), node.place, node.variable, node.macro
        condition = None if node.condition is None else self.compiled(node.condition)
        transform = None if node.transform is None else self.compiled(node.transform)

        def holds(frame: Frame) -> bool:
            return condition is None or self._truth(place, condition(frame), macro)

        def quantify(frame: Frame, inner: dict[str, Value], elements: Iterator[Value]) -> Value:
            """`all` and `exists` pass over what fails if another element decides."""
            decides = macro == "exists"
            failure: ExpressionError | None = None
            inner_frame = Frame(inner, frame.budget)
            for element in elements:
                frame.budget.spend(1)
                inner[variable] = element
                try:
                    if holds(inner_frame) is decides:
                        return decides
                except LimitError:
                    raise
                except ExpressionError as error:
                    failure = failure or error
            if failure is not None:
                raise failure
            return not decides

        def each(frame: Frame) -> Value:
            frame.budget.spend(1)
            elements = self._elements(node, over(frame))
            inner = dict(frame.values)
            frame.budget.spend(len(inner))
            if macro in ("all", "exists"):
                return quantify(frame, inner, elements)
            inner_frame = Frame(inner, frame.budget)
            found: list[Value] = []
            for element in elements:
                frame.budget.spend(1)
                inner[variable] = element
                if holds(inner_frame):
                    found.append(element if transform is None else transform(inner_frame))
            return len(found) == 1 if macro == "exists_one" else found

        return each

    def _elements(self, node: Each, value: Value) -> Iterator[Value]:
        """One after another: what is not looked at costs nothing."""
        if isinstance(value, list):
            return map(_native, value)
        if isinstance(value, dict):
            return (key.value if isinstance(key, TruthKey) else key for key in value)
        raise self._failed(
            node.place, f"{self._source(node.over)} is {_kind(value)}: {node.macro} needs a list or a map"
        )

    def _truth(self, place: Place, value: Value, by: str) -> bool:
        if value is True or value is False:
            return bool(value)
        raise self._failed(
            place, f"{self._told(place)} is {_kind(value)}: {by} needs something that is true or false"
        )

    def _guarded(self, place: Place, compute: Callable[[], bool]) -> bool:
        try:
            return compute()
        except ExpressionError:
            raise
        except ValueError as error:
            raise self._failed(place, str(error)) from None

    def _source(self, node: Node) -> str:
        return self._told(node.place)

    def _told(self, place: Place) -> str:
        text = " ".join(self._text[place.offset : place.end].split())
        return text if len(text) <= 60 else f"{text[:57]}…"

    def _failed(self, place: Place, message: str) -> ExpressionError:
        return ExpressionError(message, *at(self._text, place.offset))

    def _missing(self, place: Place, message: str) -> MissingError:
        return MissingError(message, *at(self._text, place.offset))


def as_key(value: Value) -> Value:
    """What a map has it under: numbers by their value, true and false apart from 1 and 0. None for what is no key."""
    if isinstance(value, bool):
        return TruthKey(value)
    if isinstance(value, float):
        return int(value) if value == value // 1 else None
    return value if isinstance(value, str | int) else None


def _native(value: Value) -> Value:
    """A value of JSON as the language has it: whole numbers have 64 bits, and are fractions beyond."""
    if type(value) is int and not MIN_INT <= value <= MAX_INT:
        try:
            return float(value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    return value


def _spent(frame: Frame, value: Value) -> Value:
    frame.budget.spend(1)
    return value


def _kind(value: Value) -> str:
    try:
        return kind_of(value)
    except NotAValueError as error:
        return str(error)


def _shown(key: Any) -> str:
    if isinstance(key, TruthKey):
        key = key.value
    text = repr(int(key)) if isinstance(key, UInt) else repr(key)
    return text if len(text) <= 60 else f"{text[:57]}…"
