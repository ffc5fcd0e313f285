"""Reads YAML 1.2 and JSON, and knows of each value where it stands. Pure.

Threat: a text of a few lines that means billions (aliases of aliases), that is nested a thousand deep, that says one
thing to its reader and another to us (a key twice, tags, `on` taken for true); that is read again and again for what
can be mended in it, or told back many times over. Mechanism: the parser's events are built into values here, by the
core schema of YAML 1.2; anchors, aliases, tags and keys that come twice are refused; size, depth, number of values,
length of keys, what is read again and what is told of a finding are bounded. Not covered: what the values say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from ringfence.bounded import storable

MAX_CHARACTERS = 1024 * 1024
MAX_DEPTH = 60
MAX_VALUES = 20_000
MAX_DOCUMENTS = 100
MAX_KEY = 1000
MOST_TOLD = 100
"""How many findings are told at once."""
MOST_PATH, MOST_MESSAGE = 300, 1000
"""How many characters of a path and of a message are told: both quote what somebody has written."""
Path: TypeAlias = tuple[str | int, ...]
"""The way to a value: keys, and numbers of elements."""

_NULL = re.compile(r"(?:null|Null|NULL|~|)")
_BOOL = re.compile(r"(?:true|True|TRUE|(false|False|FALSE))")
_INT = re.compile(r"[-+]?[0-9]{1,400}|0o(?P<octal>[0-7]{1,400})|0x(?P<hex>[0-9a-fA-F]{1,400})")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?(?:\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN")
_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
"""Two escapes of JSON that are one character, which YAML writes as one."""
_BREAK = re.compile("[\u0085\u2028\u2029]")
"""Ends of lines in YAML 1.1, by which the parser goes, and characters like others in YAML 1.2 and in JSON."""
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON has in texts as it is, and YAML only as an escape, or with another meaning."""
_COLON_IN_TEXT = "mapping values are not allowed"
"""What the parser says of `script: curl -H "Accept: text/plain"`: a text without quotation marks has no `: ` in it.
That can mean only one thing, so a text of one line is taken as it stands."""
_QUOTE = "'"
_PLAIN_LINE = re.compile(r"""( *(?:- +)*[A-Za-z_][A-Za-z0-9_-]*: +)([^\s"'\[\]{}|>&*!%@`#,?:-].*?)\r?""")
MOST_QUOTED = 200
MOST_READ_AGAIN = 2 * MAX_CHARACTERS
"""In how many lines that is done: each of them has the text read once more, up to there; and how much that may be."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something that is wrong, or (a warning) may be: where in the text, from 1, at which value, and what."""

    line: int
    column: int
    path: str
    message: str
    is_warning: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", _clipped(self.path, MOST_PATH))
        object.__setattr__(self, "message", _clipped(self.message, MOST_MESSAGE))

    def to_wire(self) -> dict[str, Any]:
        """The same as JSON."""
        return {"line": self.line, "column": self.column, "path": self.path, "message": self.message}

    def __str__(self) -> str:
        at = f"{self.path}: " if self.path else ""
        return f"{self.line}:{self.column}: {at}{self.message}"


class NotReadableError(ValueError):
    """A text is not what it should be; `findings` say what, and where."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(sorted(findings))[:MOST_TOLD]
        super().__init__("\n".join(map(str, self.findings)))


@dataclass(slots=True)
class Node:
    """A value, where it begins, and what is in it; of a text that stands there letter by letter, where that begins."""

    value: Any
    line: int
    column: int
    children: dict[str | int, Node] = field(default_factory=dict)
    key_at: tuple[int, int] | None = None
    text_line: int = 0
    text_column: int = 0
    is_block: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a text."""

    root: Node

    @property
    def value(self) -> Any:
        """What it says, as JSON."""
        return self.root.value

    def place(self, path: Sequence[str | int], *, at_key: bool = False) -> tuple[int, int]:
        """Where the value stands, or its key, or what is nearest around it."""
        node = self._nearest(path)
        return node.key_at if at_key and node.key_at is not None else (node.line, node.column)

    def place_within(self, path: Sequence[str | int], line: int, column: int) -> tuple[int, int]:
        """Where a place of a text stands, that is a value; as exactly as can be told."""
        node = self._nearest(path)
        if not node.text_line:
            return node.line, node.column
        if line == 1 and not node.is_block:
            return node.text_line, node.text_column + column - 1
        if node.is_block:
            return node.text_line + line - 1, node.text_column + column - 1
        return node.line, node.column

    def _nearest(self, path: Sequence[str | int]) -> Node:
        node = self.root
        for part in path:
            if (child := node.children.get(part)) is None:
                break
            node = child
        return node


def documents(text: str) -> list[Document]:
    """The documents of a text of YAML or JSON; empty ones are left out. Raises `NotReadableError`."""
    if len(text) > MAX_CHARACTERS:
        raise NotReadableError([Finding(1, 1, "", f"the text is longer than {MAX_CHARACTERS} characters")])
    try:
        storable(text)
    except ValueError as error:
        raise NotReadableError([Finding(1, 1, "", f"the text {error}")]) from None
    if text.lstrip()[:1] in ("{", "["):
        text = _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", _PAIR.sub(_as_one, text))
    elif (found := _BREAK.search(text)) is not None:
        before = text[: found.start()]
        line, column = before.count("\n") + 1, found.start() - before.rfind("\n")
        what = f"this holds U+{ord(found[0]):04X}, which not every reader takes for the same: write it as an escape"
        raise NotReadableError([Finding(line, column, "", what)])
    lines = text.split("\n")
    quoted: set[int] = set()
    read_again = 0
    while True:
        try:
            roots = _Builder(lines, quoted).roots(yaml.parse("\n".join(lines), Loader=_LOADER))
            return [Document(root) for root in roots if root.value is not None]
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            if mark is not None and str(error.problem).startswith(_COLON_IN_TEXT):
                read_again += mark.index
                has_room = len(quoted) < MOST_QUOTED and read_again <= MOST_READ_AGAIN
                if has_room and _quote(lines, mark.line, quoted):
                    continue
            line, column = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
            what = f"this is no YAML: {error.problem or error.context}"
            raise NotReadableError([Finding(line, column, "", what)]) from None
        except yaml.YAMLError as error:
            first = str(error).splitlines()[0] if str(error) else "unknown"
            raise NotReadableError([Finding(1, 1, "", f"this is no YAML: {first}")]) from None


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _quote(lines: list[str], number: int, quoted: set[int]) -> bool:
    """Put the text of a line in quotation marks, if that is a key with a text behind it that has none."""
    if number >= len(lines) or number in quoted or (found := _PLAIN_LINE.fullmatch(lines[number])) is None:
        return False
    text, comment = found[2], ""
    if (begins := text.find(" #")) >= 0:
        text, comment = text[:begins], text[begins:]
    lines[number] = f"{found[1]}'{text.rstrip().replace(_QUOTE, 2 * _QUOTE)}'{comment}"
    quoted.add(number)
    return True


def _as_one(found: re.Match[str]) -> str:
    high, low = int(found[2], 16), int(found[3], 16)
    return f"{found[1]}\\U{0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00):08x}"


class _Builder:
    """Makes values of a parser's events."""

    def __init__(self, lines: list[str], quoted: set[int]) -> None:
        self._lines = lines
        self._quoted = quoted
        self._findings: list[Finding] = []
        self._count = 0
        self._documents = 0

    def roots(self, events: Iterator[Any]) -> Iterator[Node]:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._documents += 1
                if self._documents > MAX_DOCUMENTS:
                    raise self._failed(event, f"there are more than {MAX_DOCUMENTS} documents")
                yield self._value(next(events), events, 1, "")
        if self._findings:
            raise NotReadableError(self._findings)

    def _value(self, event: Any, events: Iterator[Any], depth: int, path: str) -> Node:
        self._count += 1
        if self._count > MAX_VALUES:
            raise self._failed(event, f"there are more than {MAX_VALUES} values")
        if depth > MAX_DEPTH:
            raise self._failed(event, f"this is nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise self._failed(event, "anchors and aliases are not taken: write it again where it is needed")
        if event.tag is not None:
            raise self._failed(event, "tags are not taken")
        node = Node(None, event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.SequenceStartEvent):
            node.value = []
            while not isinstance(inner := next(events), yaml.SequenceEndEvent):
                number = len(node.value)
                child = self._value(inner, events, depth + 1, f"{path}[{number}]")
                node.children[number] = child
                node.value.append(child.value)
        elif isinstance(event, yaml.MappingStartEvent):
            node.value = {}
            while not isinstance(key_event := next(events), yaml.MappingEndEvent):
                self._entry(node, key_event, events, depth, path)
        else:
            self._check(event)
            self._scalar(node, event, path)
        return node

    def _entry(self, node: Node, key_event: Any, events: Iterator[Any], depth: int, path: str) -> None:
        if not isinstance(key_event, yaml.ScalarEvent):
            raise self._failed(key_event, "a key must be a text")
        if key_event.anchor is not None or key_event.tag is not None:
            raise self._failed(key_event, "anchors and tags are not taken")
        self._check(key_event)
        key = key_event.value
        if len(key) > MAX_KEY:
            raise self._failed(key_event, f"a key has at most {MAX_KEY} characters")
        below = f"{path}.{key}" if path else key
        child = self._value(next(events), events, depth + 1, below)
        mark = key_event.start_mark
        if key in node.children:
            first = node.children[key].line
            self._findings.append(
                Finding(mark.line + 1, mark.column + 1, below, f"{key[:40]} is there twice; see line {first}")
            )
            return
        child.key_at = (mark.line + 1, mark.column + 1)
        node.children[key] = child
        node.value[key] = child.value

    def _scalar(self, node: Node, event: Any, path: str) -> None:
        if event.style in ("|", ">"):
            node.value = event.value
            node.text_line = node.line + 1
            node.is_block = event.style == "|"
            following = self._lines[node.line : node.line + 1]
            node.text_column = len(following[0]) - len(following[0].lstrip(" ")) + 1 if following else 1
            if event.style == ">":
                node.text_line = 0
            return
        node.text_line = node.line
        is_quoted = event.style in ("'", '"') and event.start_mark.line not in self._quoted
        node.text_column = node.column + is_quoted
        node.value = event.value if event.style in ("'", '"') else self._plain(event, path)

    def _plain(self, event: Any, path: str) -> Any:
        """What a text without quotation marks is, by the core schema of YAML 1.2 (section 10.3.2)."""
        text = event.value
        if _NULL.fullmatch(text) is not None:
            return None
        if (truth := _BOOL.fullmatch(text)) is not None:
            return truth[1] is None
        if (whole := _INT.fullmatch(text)) is not None:
            if whole["octal"] is not None:
                return int(whole["octal"], 8)
            return int(whole["hex"], 16) if whole["hex"] is not None else int(text)
        if _FLOAT.fullmatch(text) is not None:
            number = float(text)
            if number not in (float("inf"), float("-inf")):
                return number
        elif _NO_NUMBER.fullmatch(text) is None:
            return text
        mark = event.start_mark
        self._findings.append(
            Finding(mark.line + 1, mark.column + 1, path, f"{text[:40]} is a number that JSON does not have")
        )
        return None

    def _check(self, event: Any) -> None:
        """An escape can say what the text itself may not hold."""
        try:
            storable(event.value)
        except ValueError as error:
            raise self._failed(event, f"a text {error}") from None

    def _failed(self, event: Any, message: str) -> NotReadableError:
        mark = event.start_mark
        return NotReadableError([*self._findings, Finding(mark.line + 1, mark.column + 1, "", message)])
