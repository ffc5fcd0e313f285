"""The policy as a form: its settings, made of the model's schema, and what was entered of them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from ringfence.bounded import bounded_json
from ringfence.sandbox.policy import DEFAULT_POLICY, SandboxPolicy

from ringfence_script_packages.sizes import read_size, spell_size

Kind = Literal["choice", "number", "size", "lines"]
WHOLE = "policy"
"""What a problem is about that is none of a single setting."""
TOP = "The sandbox"
_YES_NO = {"true": "yes", "false": "no"}
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its dotted path in wire names, how it is entered, and what it means."""

    path: str
    title: str
    meaning: str
    kind: Kind
    options: Sequence[str] = ()
    unit: str = ""
    optional: bool = False
    effects: Mapping[str, str] = field(default_factory=dict)

    def spelled(self, value: object) -> str:
        """A value as it is entered."""
        match value:
            case None:
                return ""
            case list() | tuple():
                return "\n".join(map(str, value))
            case bool():
                return json.dumps(value)
            case int() if self.kind == "size":
                return spell_size(value)
            case _:
                return str(value)

    def read(self, text: str) -> object:
        """What was entered, as JSON; the model says what is wrong with it."""
        stripped = text.strip()
        match self.kind:
            case "lines":
                return [line.strip() for line in text.splitlines() if line.strip()]
            case "choice":
                return stripped == "true" if self.options[0] == "true" and stripped in _YES_NO else stripped
            case _ if not stripped and self.optional:
                return None
            case "size" if (size := read_size(stripped)) is not None:
                return size
            case "size":
                stripped = stripped.removesuffix("bytes").strip()
        plain = stripped.isascii() and stripped.isdigit() and len(stripped) <= _DIGITS
        return int(stripped) if plain else stripped

    def words(self, value: object) -> str:
        """A value for people."""
        match value:
            case bool():
                return _YES_NO[json.dumps(value)]
            case list() | tuple():
                return f"{len(value)} {'entry' if len(value) == 1 else 'entries'}" if value else "empty"
            case None:
                return "not set"
            case int() if self.kind == "number" and self.unit:
                return f"{value:,} {self.unit}"
            case _:
                return self.spelled(value)

    def effect(self, value: object) -> str:
        """What a value does, in a sentence; empty where the number says it all."""
        match value:
            case None | [] | ():
                return self.effects.get("none", "")
            case list() | tuple():
                said = ", ".join(map(str, value)) if len(value) <= 3 else self.words(value)
                return self.effects.get("some", "").replace("{value}", said)
            case bool():
                return self.effects.get(json.dumps(value), "")
            case int():
                return self.effects.get("some", "").replace("{value}", str(value))
            case _:
                return self.effects.get(str(value), "")

    @property
    def choices(self) -> list[tuple[str, str]]:
        """What can be chosen, each with its words."""
        return [
            (one, f"{_YES_NO.get(one, one)}: {self.effects[one]}" if one in self.effects else one)
            for one in self.options
        ]


@dataclass(frozen=True, slots=True)
class Layer:
    """The settings of one part of the policy."""

    title: str
    meaning: str
    settings: Sequence[Setting]


@cache
def schema() -> dict[str, Any]:
    """The JSON schema of a policy, in wire names."""
    return SandboxPolicy.model_json_schema(by_alias=True)


@cache
def layers() -> tuple[Layer, ...]:
    """All settings, by part."""
    document = schema()
    own: list[Setting] = []
    parts: list[Layer] = []
    for name, said in document["properties"].items():
        part = _resolved(said, document)
        if "properties" in part:
            inner = [_setting(f"{name}.{key}", one, document) for key, one in part["properties"].items()]
            parts.append(Layer(part["title"], part["description"], inner))
        else:
            own.append(_setting(name, said, document))
    return (
        Layer(TOP, "Whether scripts run in the sandbox, and what happens if it is not available.", own),
        *parts,
    )


@cache
def settings() -> dict[str, Setting]:
    """All settings, by path."""
    return {one.path: one for layer in layers() for one in layer.settings}


def _setting(path: str, said: Mapping[str, Any], document: Mapping[str, Any]) -> Setting:
    full = _resolved(said, document)
    alternatives = [_resolved(one, document) for one in full.get("anyOf", ())]
    optional = any(one.get("type") == "null" for one in alternatives)
    type = next((one["type"] for one in alternatives if one.get("type") != "null"), full.get("type"))
    kind: Kind = "number"
    options: Sequence[str] = ()
    if type == "boolean":
        kind, options = "choice", ("true", "false")
    elif "enum" in full:
        kind, options = "choice", tuple(full["enum"])
    elif type == "array":
        kind = "lines"
    elif full.get("unit") == "bytes":
        kind = "size"
    return Setting(
        path,
        full["title"],
        full["description"],
        kind,
        options,
        full.get("unit", ""),
        optional,
        full.get("effects", {}),
    )


def _resolved(said: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part of the schema together with what it refers to."""
    if "$ref" not in said:
        return said
    return {**document["$defs"][said["$ref"].rpartition("/")[2]], **said}


def leaves(policy: SandboxPolicy) -> dict[str, Any]:
    """The value of each setting by its path, also where it is not set."""
    wire = policy.model_dump(mode="json", by_alias=True)
    found: dict[str, Any] = {}
    for path in settings():
        value: Any = wire
        for step in path.split("."):
            value = value[step]
        found[path] = value
    return found


def nested(values: Mapping[str, object]) -> dict[str, Any]:
    """The same as a document."""
    document: dict[str, Any] = {}
    for path, value in values.items():
        *above, last = path.split(".")
        into = document
        for step in above:
            into = into.setdefault(step, {})
        into[last] = value
    return document


DEFAULTS = leaves(DEFAULT_POLICY)


@dataclass(frozen=True, slots=True)
class Entered:
    """What somebody has entered, as fields or as a document, and what is wrong with it by path."""

    texts: Mapping[str, str]
    document: str
    as_json: bool
    problems: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, policy: SandboxPolicy, *, as_json: bool) -> Entered:
        """A policy as if it had been entered."""
        values = leaves(policy)
        texts = {path: one.spelled(values[path]) for path, one in settings().items()}
        return cls(texts, json.dumps(policy.spelled_out(), indent=2, ensure_ascii=False), as_json)

    @classmethod
    def sent(cls, form: Mapping[str, str]) -> Entered:
        """What a form has brought."""
        as_json = form.get("as") == "json"
        return cls(
            {path: form.get(path, "") for path in settings()},
            form.get("document", ""),
            as_json,
            {} if as_json else _missing(form),
        )

    def read(self) -> dict[str, Any]:
        """The document to put over the default. Raises `ValueError` where a document is none."""
        if not self.as_json:
            return nested({path: one.read(self.texts[path]) for path, one in settings().items()})
        try:
            document = bounded_json(json.loads(self.document, object_pairs_hook=_once))
        except RecursionError as error:
            raise ValueError("the document is nested too deep") from error
        except json.JSONDecodeError as error:
            raise ValueError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
        if not isinstance(document, dict):
            raise ValueError("the policy must be a JSON object")
        return document

    def wrong(self, problems: Sequence[str]) -> Entered:
        """The same with what is wrong with it, each beside its setting."""
        found: dict[str, list[str]] = {}
        for problem in problems:
            path, _, what = problem.partition(": ")
            known = next((one for one in settings() if path == one or path.startswith(f"{one}.")), None)
            if self.as_json or known is None:
                found.setdefault(WHOLE, []).append(problem)
            else:
                found.setdefault(known, []).append(what)
        told = {path: "; ".join(each[:5]) for path, each in found.items()}
        return Entered(self.texts, self.document, self.as_json, {**told, **self.problems})


def _missing(form: Mapping[str, str]) -> dict[str, str]:
    """An absent field is no setting: what nobody has entered must not become anything."""
    return {
        path: "this field was not sent: reload the page, and enter it again"
        for path in settings()
        if path not in form
    }


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found
