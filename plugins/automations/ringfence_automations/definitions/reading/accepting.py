"""Makes definitions of a text, and tells all that is wrong with it at once. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from ringfence.documents.reading import (
    Document,
    Finding,
    NotReadableError,
    Path,
    documents,
)

from ringfence_automations.definitions.definition import Definition
from ringfence_automations.definitions.reading.checking import CheckedStep, Kinds, check
from ringfence_automations.definitions.reading.messages import Problem, located, problems_of
from ringfence_automations.definitions.scopes import Schemas
from ringfence_automations.definitions.step import HEADER

_IN_LISTS = ("triggers", "steps", "conditions")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A definition that is right as far as can be told from its text, where it stands, and what its actions say."""

    document: Document
    definition: Definition
    actions: list[CheckedStep]

    def finding(self, path: Path, message: str, *, is_warning: bool = False) -> Finding:
        """Something that was found later, with its place."""
        return located(Problem(path, message, is_warning=is_warning), self.document)


def accept(text: str, schemas: Schemas, kinds: Kinds) -> list[Accepted]:
    """The definitions in a text of YAML or JSON, which may have several documents.

    Raises:
        NotReadableError: with all that is wrong, in all of them.
    """
    found = documents(text)
    if not found:
        raise NotReadableError([Finding(1, 1, "", "there is no definition in this text")])
    accepted: list[Accepted] = []
    findings: list[Finding] = []
    for document in found:
        try:
            accepted.append(accept_document(document, schemas, kinds))
        except NotReadableError as error:
            findings += error.findings
    names: set[str] = set()
    for one in accepted:
        if one.definition.name in names:
            findings.append(one.finding(("name",), f"there are two definitions of {one.definition.name}"))
        names.add(one.definition.name)
    if findings:
        raise NotReadableError(findings)
    return accepted


def accept_document(document: Document, schemas: Schemas, kinds: Kinds) -> Accepted:
    """The definition in one document. Raises `NotReadableError`."""
    if not isinstance(document.value, dict):
        raise NotReadableError([Finding(*document.place(()), "", "a definition must be a map")])
    try:
        definition = Definition.model_validate(document.value)
    except ValidationError as error:
        problems = problems_of(error, Definition)
        problems += _further(document.value, problems, schemas, kinds)
        raise NotReadableError(located(one, document) for one in problems) from None
    checked = check(definition, schemas, kinds)
    if checked.problems:
        raise NotReadableError(located(one, document) for one in checked.problems)
    return Accepted(document, definition, checked.actions)


def _further(
    value: Mapping[str, Any], problems: list[Problem], schemas: Schemas, kinds: Kinds
) -> list[Problem]:
    """What else is wrong: of what is left when that in which pydantic has found something is taken out."""
    without = dict(value)
    has_all_triggers = True
    for problem in problems:
        match problem.path:
            case (str(name), int(number), *_) if name in _IN_LISTS and isinstance(without.get(name), list):
                several = list(without[name])
                if number < len(several):
                    paths = [one.path[2:] for one in problems if one.path[:2] == (name, number)]
                    several[number] = _stand_in(name, value[name][number], paths)
                without[name] = several
                has_all_triggers = has_all_triggers and name != "triggers"
            case (str(name), *_):
                without.pop(name, None)
                has_all_triggers = has_all_triggers and name != "triggers"
            case _:
                return []
    without.setdefault("name", "a")
    without.setdefault("steps", [_stand_in("steps", None, [])])
    try:
        definition = Definition.model_validate(without)
    except ValidationError:
        return []
    found = check(definition, schemas, kinds, knows_triggers=has_all_triggers).problems
    told = {problem.path for problem in problems}
    return [one for one in found if one.path not in told]


def _stand_in(name: str, given: Any, wrong: list[Path]) -> Any:
    """What to look at in place of an element in which something is wrong: what is left of it without that."""
    if name == "triggers":
        return {"manual": True}
    if name == "conditions":
        return "true"
    if not isinstance(given, dict):
        return {"stop": {}}
    parts = {path[0] for path in wrong if path}
    left = {key: one for key, one in given.items() if key not in parts}
    kinds = [key for key in left if key not in HEADER]
    if () in wrong or len(kinds) != 1:
        left = {key: one for key, one in left.items() if key in ("id", "when")} | {"stop": {}}
    return left
