"""Label selectors, by Kubernetes' grammar: which satellites are meant. Pure.

    region=eu,role in (web, api),!maintenance

See https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors. An empty selector, which
selects everything there, is none here: where nothing is said, nothing is meant.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from ringfence_satellite.labels import key_fault, shown, value_fault

MAX_SELECTOR = 1000
"""The longest selector, in characters."""
_SPACE = " \t\r\n"
_TOKEN = re.compile(r"([^ \t\r\n=!,()<>]+)|==|!=|[=!,()<>]")
_EXPECTED_OPERATOR = "expected =, ==, !=, in, notin or a comma"


class SelectorError(ValueError):
    """A text is no selector; the message says why, and at which character (the first is 1)."""

    def __init__(self, fault: str, at: int) -> None:
        self.at = at + 1
        super().__init__(f"at character {self.at}: {fault}")


class Operator(enum.StrEnum):
    """What is required of a label. The last two also hold where there is no such label."""

    EXISTS = "exists"
    IN = "in"
    ABSENT = "!"
    NOT_IN = "notin"


@dataclass(frozen=True, slots=True)
class Requirement:
    """What is required of the label with one name; `values` are for `in` and `notin`."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether it is so with these labels."""
        match self.operator:
            case Operator.EXISTS:
                return self.key in labels
            case Operator.ABSENT:
                return self.key not in labels
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values

    @property
    def needs_label(self) -> bool:
        """Whether it holds only where there is such a label."""
        return self.operator in {Operator.EXISTS, Operator.IN}

    @property
    def texts(self) -> frozenset[str] | None:
        """As which texts a label may be carried that meets it (see `AssignedSatellite.tags`); None if any may be."""
        if self.operator is not Operator.IN:
            return None
        bare = {self.key} if "" in self.values else set()
        return frozenset(f"{self.key}={value}" for value in self.values).union(bare)


@dataclass(frozen=True, slots=True)
class Selector:
    """What is required of satellites, all of it at once; `text` is how it was written."""

    text: str
    requirements: tuple[Requirement, ...] = field(compare=False)

    @staticmethod
    @functools.lru_cache(maxsize=4096)  # Thousands of checks have a few selectors between them.
    def parse(text: str) -> Selector:
        """Read a selector.

        Raises:
            SelectorError: if it is none.
        """
        if len(text) > MAX_SELECTOR:
            raise SelectorError(f"a selector has at most {MAX_SELECTOR} characters", MAX_SELECTOR)
        return Selector(text.strip(_SPACE), tuple(_Reader(text).requirements()))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a satellite with these labels (all of them, by name) is meant."""
        return all(one.holds(labels) for one in self.requirements)

    @property
    def needs_label(self) -> bool:
        """Whether no satellite without any label is meant."""
        return any(one.needs_label for one in self.requirements)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class _Token:
    """A word, or one of the special characters; an empty text is the end."""

    text: str
    at: int
    is_word: bool = False


class _Reader:
    """Reads requirements from left to right."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0

    def requirements(self) -> list[Requirement]:
        found = [self._requirement()]
        while (token := self._take()).text == ",":
            found.append(self._requirement())
        if token.text:
            raise SelectorError(f"expected a comma or the end, and not {shown(token.text)}", token.at)
        return found

    def _requirement(self) -> Requirement:
        is_absent = self._is_next("!")
        if is_absent:
            self._take()
        key = self._key()
        if is_absent:
            return Requirement(key, Operator.ABSENT)
        token = self._peek()
        match token.text:
            case "" | ",":
                return Requirement(key, Operator.EXISTS)
            case "=" | "==":
                self._take()
                return Requirement(key, Operator.IN, frozenset({self._value()}))
            case "!=":
                self._take()
                return Requirement(key, Operator.NOT_IN, frozenset({self._value()}))
            case "in" | "notin":
                self._take()
                return Requirement(key, Operator(token.text), self._values())
            case _:
                raise SelectorError(f"{_EXPECTED_OPERATOR}, and not {shown(token.text)}", token.at)

    def _key(self) -> str:
        token = self._take()
        if not token.is_word:
            raise SelectorError(f"expected a label's name{_instead(token)}", token.at)
        if (fault := key_fault(token.text)) is not None:
            raise SelectorError(fault, token.at)
        return token.text

    def _value(self) -> str:
        """A value; one that is left out is empty."""
        if not self._peek().is_word:
            return ""
        token = self._take()
        if (fault := value_fault(token.text)) is not None:
            raise SelectorError(fault, token.at)
        return token.text

    def _values(self) -> frozenset[str]:
        opened = self._take()
        if opened.text != "(":
            raise SelectorError(f"expected ({_instead(opened)}", opened.at)
        if self._is_next(")"):
            raise SelectorError("expected a value between the parentheses", self._peek().at)
        values = {self._value()}
        while self._is_next(","):
            self._take()
            values.add(self._value())
        closed = self._take()
        if closed.text != ")":
            raise SelectorError(f"expected a comma or ){_instead(closed)}", closed.at)
        return frozenset(values)

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _is_next(self, special: str) -> bool:
        return self._peek().text == special

    def _take(self) -> _Token:
        token = self._peek()
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token


def _instead(token: _Token) -> str:
    return f", and not {shown(token.text)}" if token.text else ", and this is the end"


def _tokens(text: str) -> list[_Token]:
    """The words and the special characters of `text`, and the end."""
    found = [_Token(one[0], one.start(), one[1] is not None) for one in _TOKEN.finditer(text)]
    return [*found, _Token("", len(text))]


def _read(value: Any) -> Selector:
    if isinstance(value, Selector):
        return value
    if not isinstance(value, str):
        raise ValueError("must be a text, such as: region=eu,role in (web, api)")
    return Selector.parse(value)


SelectorText = Annotated[
    Selector,
    PlainValidator(_read),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "maxLength": MAX_SELECTOR}),
]
"""A selector in a model, which is a text in JSON."""
