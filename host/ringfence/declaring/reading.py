"""Reads files into declared objects, and tells all that is wrong with them at once. Pure.

Threat: a document refers to a file that is none of its own, and whoever sends it gets that file's text into a script
that they may read; or it is so large, or so deep, that reading it keeps everybody waiting. Mechanism: only files that
were sent along are taken, by paths that stay within the directory; number, size and depth are bounded (see
`ringfence.documents.reading`). Not covered: what the sender can read on their own machine.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ringfence.declaring.kind import ObjectKind, written
from ringfence.documents.reading import Document, Finding, Node, NotReadableError, documents
from ringfence.expressions.near_names import near
from ringfence.spans import seconds_of

API_VERSION = "ringfence/v1"
SCRIPT, SCRIPT_FILE = "script", "scriptFile"
DOCUMENT_SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"
MOST_OBJECTS = 500
MOST_TOLD = 100
_NAME = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,198}[^\s\x00-\x1f\x7f])?")
_KEYS = ("apiVersion", "kind", "metadata", "spec")


@dataclass(frozen=True, slots=True, order=True)
class Told:
    """Something that is wrong: in which file, where, what, and as which status of HTTP it counts."""

    file: str
    finding: Finding
    status: int = 422

    def to_wire(self) -> dict[str, Any]:
        """The same as JSON."""
        return {"file": self.file, **self.finding.to_wire()}

    def __str__(self) -> str:
        return f"{self.file}:{self.finding}"


class WrongFilesError(ValueError):
    """The files cannot be applied; `told` says why. `needs` are files that were not sent along."""

    def __init__(self, told: Sequence[Told], *, needs: Sequence[str] = ()) -> None:
        self.told = sorted(set(told))[:MOST_TOLD]
        self.needs = sorted(set(needs))
        super().__init__("\n".join(map(str, self.told)))


@dataclass(frozen=True, slots=True)
class Declared:
    """An object as a document declares it."""

    kind: ObjectKind[Any]
    name: str
    labels: Mapping[str, str]
    spec: Any
    hash: str
    file: str
    document: Document

    @property
    def key(self) -> tuple[str, str]:
        """By what it is known."""
        return self.kind.kind, self.name

    @property
    def place(self) -> tuple[int, int]:
        """Where it begins."""
        return self.document.place(("kind",), at_key=True)

    def told(self, message: str, path: Sequence[str | int] = (), *, status: int = 422) -> Told:
        """Something that is wrong with it."""
        inner = ("spec", *path) if path else ("metadata", "name")
        place = written(path) if path else f"{self.kind.kind} {self.name}"
        return Told(self.file, Finding(*self.document.place(inner), place, message), status)


def read(files: Mapping[str, str], kinds: Mapping[str, ObjectKind[Any]]) -> list[Declared]:
    """The objects that the documents among the files declare, in the order in which they are applied.

    Raises `WrongFilesError`.
    """
    reader = _Reader(files, kinds)
    for path in sorted(files):
        if path == STDIN or path.endswith(DOCUMENT_SUFFIXES):
            reader.read(path)
    return reader.found()


class _Reader:
    def __init__(self, files: Mapping[str, str], kinds: Mapping[str, ObjectKind[Any]]) -> None:
        self._files = files
        self._kinds = kinds
        self._told: list[Told] = []
        self._needs: list[str] = []
        self._declared: dict[tuple[str, str], Declared] = {}
        self._documents = 0

    def read(self, path: str) -> None:
        try:
            found = documents(self._files[path].removeprefix("\ufeff"))
        except NotReadableError as error:
            self._documents += 1
            self._told += [Told(path, one) for one in error.findings]
            return
        for document in found:
            self._documents += 1
            if self._documents > MOST_OBJECTS:
                break
            try:
                self._declare(path, document)
            except NotReadableError as error:
                self._told += [Told(path, one) for one in error.findings]

    def found(self) -> list[Declared]:
        if self._documents > MOST_OBJECTS:
            self._told.append(Told("", Finding(1, 1, "", f"there are more than {MOST_OBJECTS} documents")))
        if not self._documents:
            what = f"there is no document: those are in files that end in {', '.join(DOCUMENT_SUFFIXES)}"
            self._told.append(Told("", Finding(1, 1, "", what)))
        if self._told:
            raise WrongFilesError(self._told, needs=self._needs)
        return sorted(self._declared.values(), key=lambda one: (one.kind.order, one.key))

    def _declare(self, path: str, document: Document) -> None:
        kind, name, labels, wrong = self._head(document)
        if kind is None or (spec := document.root.children.get("spec")) is None:
            raise NotReadableError(wrong)
        wrong += self._with_files(path, spec, ())
        wrong += _with_durations(kind, spec)
        digest = hashlib.sha256(json.dumps([labels, spec.value], sort_keys=True).encode()).hexdigest()
        made: Any = None
        try:
            made = kind.check(name, Document(spec))
        except NotReadableError as error:
            told = {(one.line, one.column) for one in wrong}
            wrong += [one for one in error.findings if (one.line, one.column) not in told]
        if wrong:
            raise NotReadableError(wrong)
        declared = Declared(kind, name, labels, made, digest, path, document)
        if (other := self._declared.setdefault(declared.key, declared)) is not declared:
            line, column = other.place
            what = f"{kind.kind} {name} is declared twice: also in {other.file}:{line}:{column}"
            raise NotReadableError([Finding(*document.place(("metadata", "name")), "metadata.name", what)])

    def _head(self, document: Document) -> tuple[ObjectKind[Any] | None, str, dict[str, str], list[Finding]]:
        wrong: list[Finding] = []

        def say(path: Sequence[str | int], message: str, *, at_key: bool = False) -> None:
            place = document.place(path, at_key=at_key)
            wrong.append(Finding(*place, ".".join(map(str, path)), message))

        value = document.value
        if not isinstance(value, dict):
            say((), "a document must be a map")
            return None, "", {}, wrong
        for key in value:
            if key not in _KEYS:
                say((key,), f"{key} is not known here: {near(key, _KEYS)}", at_key=True)
        for key in _KEYS:
            if key not in value:
                say((), f"{key} is missing")
        if "apiVersion" in value and value["apiVersion"] != API_VERSION:
            say(("apiVersion",), f"this must be {API_VERSION}")
        kind = None
        if "kind" in value:
            kind = self._kinds.get(value["kind"]) if isinstance(value["kind"], str) else None
            if kind is None:
                say(("kind",), f"there is no kind {value['kind']}: {near(str(value['kind']), self._kinds)}")
        name = ""
        labels: dict[str, str] = {}
        metadata = value.get("metadata")
        if isinstance(metadata, dict):
            for key in metadata:
                if key not in ("name", "labels"):
                    what = f"{key} is not known here: {near(key, ('name', 'labels'))}"
                    say(("metadata", key), what, at_key=True)
            name = metadata.get("name", "")
            if "name" not in metadata:
                say(("metadata",), "name is missing")
            elif not isinstance(name, str) or _NAME.fullmatch(name) is None:
                say(("metadata", "name"), "a name must be a text of one line, with 1 to 200 characters")
                name = ""
            labels = metadata.get("labels") or {}
            if not isinstance(labels, dict) or not all(isinstance(one, str) for one in labels.values()):
                say(("metadata", "labels"), "labels must be a map of texts")
                labels = {}
            elif labels and kind is not None and not kind.has_labels:
                say(("metadata", "labels"), f"a {kind.kind} carries no labels", at_key=True)
        elif "metadata" in value:
            say(("metadata",), "this must be a map")
        return kind, name, labels, wrong

    def _with_files(self, path: str, node: Node, at: tuple[str | int, ...]) -> list[Finding]:
        """Put the texts of the files in place that scripts are in; answers what is wrong."""
        wrong = []
        for key, child in list(node.children.items()):
            if key != SCRIPT_FILE or not isinstance(node.value, dict):
                wrong += self._with_files(path, child, (*at, key))
                continue
            place = Finding(child.line, child.column, written((*at, key)), "")
            text, what = self._text(path, child.value, has_script=SCRIPT in node.value)
            if what is not None:
                wrong.append(Finding(place.line, place.column, place.path, what))
            del node.value[SCRIPT_FILE], node.children[SCRIPT_FILE]
            node.value[SCRIPT] = text
            node.children[SCRIPT] = Node(text, child.line, child.column, key_at=child.key_at)
        return wrong

    def _text(self, path: str, given: Any, *, has_script: bool) -> tuple[str, str | None]:
        """The text of a file that a document refers to, and what is wrong with that."""
        if has_script:
            return "", f"there is either {SCRIPT} or {SCRIPT_FILE}, and not both"
        if not isinstance(given, str) or not given or "\x00" in given or "\\" in given:
            return "", "this must be the path of a file, with / between its parts"
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), given))
        if posixpath.isabs(given) or target.split("/")[0] == "..":
            return "", f"{given} is outside of the directory that is applied"
        if target not in self._files:
            self._needs.append(target)
            return "", f"there is no file {target}"
        return self._files[target], None


def _with_durations(kind: ObjectKind[Any], spec: Node) -> list[Finding]:
    """Put seconds where spans of time are written; answers what is wrong."""
    wrong = []
    for path in kind.durations:
        node: Node | None = spec
        for part in path[:-1]:
            node = None if node is None else node.children.get(part)
        child = None if node is None else node.children.get(path[-1])
        if node is None or child is None or not isinstance(child.value, str):
            continue
        try:
            seconds = seconds_of(child.value)
            # What takes whole seconds alone takes no 30.0.
            child.value = node.value[path[-1]] = int(seconds) if seconds.is_integer() else seconds
        except ValueError as error:
            wrong.append(Finding(child.line, child.column, written(path), f"this {error}"))
    return wrong
