"""Which texts of a step's body are templates, and which of those may name secrets; and their filling in.

Threat: what comes from outside (an event, the output of a script) is taken for a template, and so gets at values and
secrets that were not meant for it. Mechanism: a template is only what a definition says in a field that its model
marks; it is filled in once, and what was filled in is never read as a template again. The names of secrets are taken
out of a text before anything is filled in. Not covered: what a definition's author has filled in where, such as an
event's text as the argument of a program that takes it for an option.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema
from ringfence.bounded import STORABLE, Json, Text

_SECRET = re.compile(
    r"""\{\{\s*secrets(?:\.([A-Za-z][A-Za-z0-9_]{0,63})|\[\s*(?:"([^"\\]{1,64})"|'([^'\\]{1,64})')\s*\])\s*\}\}"""
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
BRACES = "{{"

Body = TypeVar("Body", bound=BaseModel)
Render = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class SecretName:
    """A place in a text where the value of a secret belongs."""

    name: str


@dataclass(frozen=True, slots=True)
class SecretText:
    """A text that may name secrets. Its texts are templates until they are `rendered`."""

    pieces: tuple[str | SecretName, ...]

    @classmethod
    def parse(cls, text: str) -> SecretText:
        """Take the names of secrets out of a text: `Bearer {{ secrets.deploy }}`. Raises `ValueError`."""
        pieces: list[str | SecretName] = []
        end = 0
        for found in _SECRET.finditer(text):
            name = found[1] or found[2] or found[3]
            if _NAME.fullmatch(name) is None:
                raise ValueError(f"{name!r} is not a valid name for a secret")
            pieces += (text[end : found.start()], SecretName(name))
            end = found.end()
        pieces.append(text[end:])
        return cls(tuple(piece for piece in pieces if piece != ""))

    @property
    def names(self) -> frozenset[str]:
        """The secrets that it names."""
        return frozenset(piece.name for piece in self.pieces if isinstance(piece, SecretName))

    @property
    def templates(self) -> tuple[str, ...]:
        """Its texts between the secrets."""
        return tuple(piece for piece in self.pieces if isinstance(piece, str))

    def rendered(self, render: Render) -> SecretText:
        """The text with its templates filled in. What was filled in names no secret, whatever it says."""
        return SecretText(tuple(render(piece) if isinstance(piece, str) else piece for piece in self.pieces))

    def filled(self, secrets: Mapping[str, str]) -> str:
        """The text with the values of its secrets. Raises `KeyError`."""
        return "".join(piece if isinstance(piece, str) else secrets[piece.name] for piece in self.pieces)

    def __str__(self) -> str:
        return "".join(
            piece if isinstance(piece, str) else f'{{{{ secrets["{piece.name}"] }}}}' for piece in self.pieces
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.no_info_after_validator_function(cls.parse, handler.generate_schema(Text))
        return core_schema.json_or_python_schema(
            json_schema=text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), text]),
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )


@dataclass(frozen=True, slots=True)
class _Mark:
    """Marks a field whose texts are templates; in `JSON`, each text in it is one, but for the names of members."""


MARK = _Mark()
Templated = Annotated[str, STORABLE, MARK]
"""A text of a step's body that may hold `{{ … }}`."""
TemplatedJson = Annotated[Json, MARK]
"""JSON in a step's body whose texts may hold `{{ … }}`; the names of members may not."""
TemplatedWithSecrets = Annotated[SecretText, MARK]
"""A text of a step's body that may hold `{{ … }}`, and `{{ secrets.name }}`. Its value is a `SecretText`."""


class TemplateIn(NamedTuple):
    """A template in a body: where it stands, as in `args[0]`, and its text; secrets were taken out of it."""

    path: str
    text: str


Leaf = Callable[[str, Any], Any]


def templates_in(body: BaseModel) -> Iterator[TemplateIn]:
    """The templates of a step's body, in order: the texts that are marked, and have braces."""
    found: list[TemplateIn] = []

    def look(path: str, value: Any) -> Any:
        texts = value.templates if isinstance(value, SecretText) else (value,)
        found.extend(TemplateIn(path, text) for text in texts if BRACES in text)
        return value

    _fields(body, "", look)
    yield from found


def secret_names(body: BaseModel) -> frozenset[str]:
    """The secrets that a step's body names."""
    found: set[str] = set()

    def look(path: str, value: Any) -> Any:
        found.update(value.names if isinstance(value, SecretText) else ())
        return value

    _fields(body, "", look)
    return frozenset(found)


def rendered(body: Body, render: Render) -> Body:
    """The body with its templates filled in, and checked anew by its model.

    Raises what `render` raises, and `pydantic.ValidationError` for what the model does not take.
    """

    def fill(path: str, value: Any) -> Any:
        if isinstance(value, SecretText):
            return value.rendered(lambda text: render(text) if BRACES in text else text)
        return render(value) if BRACES in value else value

    changed = _fields(body, "", fill)
    given = {name: value for name, value in changed.items() if name in body.model_fields_set}
    return type(body).model_validate(given, by_name=True, by_alias=False)


def _fields(body: BaseModel, at: str, leaf: Leaf) -> dict[str, Any]:
    """The fields by name, with what `leaf` makes of each text that is marked."""
    fields = {}
    for name, field in type(body).model_fields.items():
        path = f"{at}.{field.alias or name}" if at else field.alias or name
        kind = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        fields[name] = _value(kind, getattr(body, name), path, leaf)
    return fields


def _value(kind: Any, value: Any, path: str, leaf: Leaf) -> Any:
    if value is None:
        return None
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        if any(isinstance(each, _Mark) for each in arguments[1:]):
            return _texts(value, path, leaf)
        return _value(arguments[0], value, path, leaf)
    if isinstance(value, BaseModel):
        given = {
            name: each for name, each in _fields(value, path, leaf).items() if name in value.model_fields_set
        }
        return type(value).model_validate(given, by_name=True, by_alias=False)
    if origin in (Union, UnionType):
        # Of several that are marked or not, the first that is: a text is the same text by each.
        for each in arguments:
            if (changed := _value(each, value, path, leaf)) is not value:
                return changed
        return value
    if isinstance(value, Mapping) and len(arguments) == 2:
        return {key: _value(arguments[1], each, f"{path}.{key}", leaf) for key, each in value.items()}
    if isinstance(value, list | tuple) and arguments:
        inside = [_value(arguments[0], each, f"{path}[{n}]", leaf) for n, each in enumerate(value)]
        return tuple(inside) if isinstance(value, tuple) else inside
    return value


def _texts(value: Any, path: str, leaf: Leaf) -> Any:
    match value:
        case str() | SecretText():
            return leaf(path, value)
        case dict():
            return {key: _texts(each, f"{path}.{key}", leaf) for key, each in value.items()}
        case list() | tuple():
            return type(value)(_texts(each, f"{path}[{n}]", leaf) for n, each in enumerate(value))
    return value
