"""An expression as a tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ringfence.expressions.computing.values import Value


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part of an expression stands in its text, and how deep it is: 1 for what has nothing within it."""

    offset: int
    end: int
    depth: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """A value that is written down."""

    place: Place
    value: Value


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """What the scope, or something around it, calls so."""

    place: Place
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Select:
    """`operand.field`."""

    place: Place
    operand: Node
    field: str


@dataclass(frozen=True, slots=True, eq=False)
class Has:
    """`has(operand.field)`."""

    place: Place
    operand: Node
    field: str


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """`operand[key]`."""

    place: Place
    operand: Node
    key: Node


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A function, a method (`is_method`, with what it is of as its first argument) or an operator with its sign."""

    place: Place
    function: str
    arguments: tuple[Node, ...]
    is_method: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """Sums and products, from left to right: a first operand, and then signs with operands and their places."""

    place: Place
    first: Node
    rest: tuple[tuple[str, Place, Node], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Logic:
    """All (`&&`) or one (`||`) of the operands. What fails counts only where the others do not decide."""

    place: Place
    decides: bool
    """What one operand must be for the whole to be that."""
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Conditional:
    """`condition ? value : …`, as often as it is written one after another."""

    place: Place
    arms: tuple[tuple[Node, Node], ...]
    otherwise: Node


@dataclass(frozen=True, slots=True, eq=False)
class ListOf:
    """`[a, b]`."""

    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True, eq=False)
class MapOf:
    """`{"a": 1}`."""

    place: Place
    entries: tuple[tuple[Node, Node], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Each:
    """A macro over the elements of a list, or over the keys of a map.

    `macro` is all, exists, exists_one, filter or map; `condition` is None for a map of all elements, `transform` for
    whatever is no map.
    """

    place: Place
    macro: str
    over: Node
    variable: str
    condition: Node | None
    transform: Node | None


Node: TypeAlias = (
    Literal | Name | Select | Has | Index | Call | Chain | Logic | Conditional | ListOf | MapOf | Each
)
