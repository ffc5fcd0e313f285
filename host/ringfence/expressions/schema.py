"""What is known of a value before it is there: its kinds, its fields, and what these are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from ringfence.expressions.computing.values import LIST, MAP, STRING

if TYPE_CHECKING:
    from pydantic import BaseModel

MOST_OPTIONS = 50
"""Of more than so many kinds of values, nothing is known any more."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value without parts. `among`: it is one of these texts."""

    kind: str
    among: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Elements:
    """A list, and what its elements are."""

    items: Schema


@dataclass(frozen=True, slots=True)
class Record:
    """An object: its fields, those of them that are always there, and what all others are (None: there are none)."""

    fields: Mapping[str, Schema] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    rest: Schema | None = None


Shape: TypeAlias = Scalar | Elements | Record


class Schema:
    """What a value may be: one of several shapes, or anything."""

    def __init__(self, shapes: Callable[[], tuple[Shape, ...] | None]) -> None:
        """`shapes` is asked once, when that is needed: a model may hold itself. None is anything."""
        self._shapes = shapes

    @cached_property
    def shapes(self) -> tuple[Shape, ...] | None:
        """What it may be; None for anything."""
        return self._shapes()

    @classmethod
    def of_model(cls, model: type[BaseModel]) -> Schema:
        """That of what a pydantic model writes as JSON, with its fields under their aliases."""
        return cls.of_json_schema(model.model_json_schema(by_alias=True, mode="serialization"))

    @classmethod
    def of_json_schema(cls, document: Mapping[str, Any]) -> Schema:
        """That of a JSON schema. What it says that is not understood here is taken for anything."""
        from ringfence.expressions.json_schema import read

        return read(document)

    @classmethod
    def anything(cls) -> Schema:
        """That of a value of which nothing is known."""
        return ANYTHING

    @classmethod
    def of_kind(cls, kind: str) -> Schema:
        """That of values of one kind, such as `string`; of lists and maps with anything in them."""
        if kind == LIST:
            return cls.list_of(ANYTHING)
        if kind == MAP:
            return cls.map_of(ANYTHING)
        return cls.of(Scalar(kind))

    @classmethod
    def text(cls, *among: str) -> Schema:
        """That of texts; of these alone, if any are given."""
        return cls.of(Scalar(STRING, among or None))

    @classmethod
    def list_of(cls, items: Schema) -> Schema:
        """That of lists."""
        return cls.of(Elements(items))

    @classmethod
    def map_of(cls, values: Schema) -> Schema:
        """That of objects with any keys."""
        return cls.of(Record(rest=values))

    @classmethod
    def record(
        cls, fields: Mapping[str, Schema], *, optional: Iterable[str] = (), rest: Schema | None = None
    ) -> Schema:
        """That of objects with these fields, and with no others unless `rest` says what they are."""
        return cls.of(Record(dict(fields), frozenset(fields).difference(optional), rest))

    @classmethod
    def of(cls, *shapes: Shape) -> Schema:
        """That of values of one of these shapes."""
        return cls(lambda: shapes)

    @classmethod
    def either(cls, schemas: Iterable[Schema]) -> Schema:
        """That of values which fit one of these."""
        several = tuple(schemas)
        if len(several) == 1:
            return several[0]

        def together() -> tuple[Shape, ...] | None:
            found: dict[Shape | int, Shape] = {}
            for one in several:
                if one.shapes is None:
                    return None
                # Records hold dictionaries, and are told apart by what they are, not by what they say.
                found.update(
                    {shape if isinstance(shape, Scalar) else id(shape): shape for shape in one.shapes}
                )
            return tuple(found.values()) if len(found) <= MOST_OPTIONS else None

        return cls(together)

    @property
    def kinds(self) -> frozenset[str] | None:
        """The kinds that it may be of; None for any."""
        if self.shapes is None:
            return None
        return frozenset(_kind(shape) for shape in self.shapes)

    @property
    def fields(self) -> Mapping[str, Schema]:
        """The fields that are known, with what each is."""
        found: dict[str, list[Schema]] = {}
        for shape in self.shapes or ():
            if isinstance(shape, Record):
                for name, one in shape.fields.items():
                    found.setdefault(name, []).append(one)
        return {name: Schema.either(several) for name, several in found.items()}

    def describe(self) -> str:
        """What it is in words, such as `string` or `list of int`."""
        if self.shapes is None:
            return "anything"
        return " or ".join(dict.fromkeys(_words(shape) for shape in self.shapes)) or "nothing"


def _kind(shape: Shape) -> str:
    if isinstance(shape, Scalar):
        return shape.kind
    return LIST if isinstance(shape, Elements) else MAP


def _words(shape: Shape) -> str:
    match shape:
        case Scalar(kind, None):
            return kind
        case Scalar(_, among):
            return " or ".join(f'"{one}"' for one in among or ())
        case Elements(items):
            inner = items.shapes
            if inner is None or any(not isinstance(one, Scalar) for one in inner):
                return "list"
            return f"list of {items.describe()}"
        case Record():
            return "map"


ANYTHING = Schema(lambda: None)

Scope: TypeAlias = Mapping[str, Schema]
"""The names that an expression may use, and what is known of each."""
