"""What is wrong with a definition, in words: of what pydantic finds, too. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from ringfence.documents.reading import Document, Finding, Path
from ringfence.expressions import near
from ringfence.refusals import in_words

from ringfence_automations.definitions.step import Choose

_MISSING = " is missing"
_MEANT = "did you mean "


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with the value at `path`; `within` is the line and column in its text, from 1.

    `at_key`: it is the key that is wrong, and not what it has.
    """

    path: Path
    message: str
    within: tuple[int, int] | None = None
    is_warning: bool = False
    at_key: bool = False


def problems_of(error: ValidationError, model: type[BaseModel], at: Path = ()) -> list[Problem]:
    """What pydantic has found in a value of `model`, which stands at `at`."""
    errors = error.errors(include_url=False, include_input=False)
    found: dict[tuple[Path, str], Problem] = {}
    for one in _of_likely_models(errors, model):
        if one["type"] == "too_short" and any(_is_within(other["loc"], one["loc"]) for other in errors):
            # Its elements are there, and something is wrong with them: that is told.
            continue
        path = _untagged(one["loc"])
        at_key = one["type"] == "extra_forbidden"
        problem = Problem((*at, *path), _message(one, model), at_key=at_key)
        found.setdefault((problem.path, problem.message), problem)
    slips = {(*one.path[:-1], _meant(one.message)) for one in found.values()}
    return [one for one in found.values() if not (one.message.endswith(_MISSING) and one.path in slips)]


def _of_likely_models(errors: list[Any], model: type[BaseModel]) -> list[Any]:
    """The errors, of a value that may be one of several models only those of the one that it is most like."""
    groups: dict[tuple[Path, Any], list[Any]] = {}
    for one in errors:
        tags = [number for number, part in enumerate(one["loc"]) if _is_tag(part)]
        key = (tuple(one["loc"][: tags[0]]), one["loc"][tags[0]]) if tags else ((), None)
        groups.setdefault(key, []).append(one)
    likely: dict[Path, Any] = {}
    for (place, tag), group in groups.items():
        if tag is None:
            continue
        slips = sum(1 for one in group if _meant(_message(one, model)) is not None)
        if place not in likely or (-slips, len(group)) < likely[place][0]:
            likely[place] = ((-slips, len(group)), tag)
    chosen = {(place, tag) for place, (_, tag) in likely.items()}
    return [one for key, group in groups.items() if key[1] is None or key in chosen for one in group]


def _meant(message: str) -> str | None:
    """The name that a message says was perhaps meant."""
    before, found, name = message.rpartition(_MEANT)
    return name.removesuffix("?") if found and before else None


def located(problem: Problem, document: Document) -> Finding:
    """The same with its place in the text."""
    path = written(problem.path, document)
    if problem.within is None:
        line, column = document.place(path, at_key=problem.at_key)
    else:
        line, column = document.place_within(path, *problem.within)
    return Finding(line, column, path_text(path), problem.message, problem.is_warning)


def written(path: Path, document: Document) -> Path:
    """The path as the document has it: the options of a `choose` may stand in a list of their own."""
    value: Any = document.value
    found: list[str | int] = []
    parts = list(path)
    while parts:
        part = parts.pop(0)
        if part == "options" and isinstance(value, list):
            continue
        if part == "otherwise" and isinstance(value, list):
            found.append(len(value) - 1)
            value = value[-1] if value else None
        found.append(part)
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            value = None
    return tuple(found)


def path_text(path: Path) -> str:
    """The path as it is written in messages: `steps[0].run_shell.script`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _message(one: Mapping[str, Any], model: type[BaseModel]) -> str:
    name = str(one["loc"][-1]) if one["loc"] else ""
    match one["type"]:
        case "extra_forbidden":
            return f"{name} is not known here: {near(name, _fields_at(model, one['loc'][:-1]))}"
        case "missing":
            return f"{name}{_MISSING}"
        case "string_pattern_mismatch":
            return f"this cannot be its value: it must match {one['ctx']['pattern']}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return "this must be a map"
        case "too_short" if one["ctx"]["min_length"] == 1:
            return "this must not be empty"
        case "value_error":
            return in_words(one)
        case _:
            return f"this {in_words(one)}"


def _is_within(inner: tuple[str | int, ...], outer: tuple[str | int, ...]) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _is_tag(part: str | int) -> bool:
    """Whether it is no part of the value, but tells which of several models pydantic has tried."""
    return isinstance(part, str) and (
        "[" in part or (part[:1].isupper() and part.isidentifier() and part != part.upper())
    )


def _untagged(location: Path) -> Path:
    return tuple(part for part in location if not _is_tag(part))


def _fields_at(model: type[BaseModel], location: Path) -> frozenset[str]:
    """The fields that there can be at this place."""
    here: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        if _is_tag(part):
            here = _model_in(here, part)
            continue
        whole = _model_in(here)
        field = None
        if whole is not None:
            named = whole.model_fields.items()
            field = next((one for name, one in named if part in (one.alias, name)), None)
        here = None if field is None else field.annotation
    found = _model_in(here)
    if found is None:
        return frozenset()
    names = {one.alias or name for name, one in found.model_fields.items()}
    return frozenset(names - {"options"} if found is Choose else names)


def _model_in(annotation: Any, named: str | None = None) -> type[BaseModel] | None:
    """The first model in an annotation, or that which is called so."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation if named in (None, annotation.__name__) else None
    return next((found for one in get_args(annotation) if (found := _model_in(one, named)) is not None), None)
