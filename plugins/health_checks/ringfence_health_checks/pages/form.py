"""A check as the fields of a form, and back. Pure: each way is a function of texts.

Lists have a line for each entry, maps a line `NAME=TEXT`. What a field holds is judged by the definition's own rules;
here is only what a form adds to them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from ringfence.pages import exact
from ringfence.refusals import in_words

from ringfence_health_checks.catalogue import Ready
from ringfence_health_checks.definitions.definition import READ_AS, Definition

KINDS = (
    ("auto", "by the first line of the script"),
    ("shell", "shell"),
    ("bash", "bash"),
    ("python", "Python"),
    ("esm", "JavaScript"),
    ("program", "another program, by the first line of the script"),
)
LANGUAGES = {"python": "python", "esm": "javascript", "shell": "shell", "bash": "shell"}
"""How the editor highlights each kind."""
FORMATS = (
    ("", "automatic"),
    ("exit", "exit status"),
    ("nagios", "monitoring plugin"),
    ("verdict", "verdict (JSON)"),
    ("json", "JSON, with assertions"),
    ("prometheus", "metrics (Prometheus)"),
)
_LINES = ("args", "assertions", "tags", "satellites")
_MAPS = ("env", "secrets")
_TEXTS = ("name", "system", "script", "kind", "format", "packages", "cron", "timezone", "selector", "stdin")
_NUMBERS = ("intervalSeconds", "timeoutSeconds", "failuresBeforeAlarm", "successesBeforeRecovery")
_TICKS = ("core", "enabled", "keepState")
_DOCUMENTS = ("needs", "flapping")
FIELDS = (*_TEXTS, "command", *_LINES, *_MAPS, *_NUMBERS, *_TICKS, *_DOCUMENTS)
_PLACES = ("core", "tags", "satellites", "selector")
WHOLE = "whole"
"""The field of the whole definition as JSON, and what is said of what is wrong in no field."""


class FormError(ValueError):
    """What was entered is no check: what is wrong, by field."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(errors.values()))
        self.errors = errors


def empty() -> dict[str, str]:
    """A form for a new check."""
    return {
        **dict.fromkeys(FIELDS, ""),
        "kind": "auto",
        "intervalSeconds": "60",
        "timeoutSeconds": "30",
        "failuresBeforeAlarm": "1",
        "successesBeforeRecovery": "1",
        "core": "yes",
        "enabled": "yes",
        "flapping": json.dumps({"changes": 5, "windowSeconds": 1800.0}),
    }


def of_ready(one: Ready) -> dict[str, str]:
    """A form for a check of the catalogue: what can be set of it stands in its variables."""
    lines = [f"{each.variable}={each.default or ''}" for each in one.settings]
    return {**empty(), "name": one.name, "script": one.source, "kind": "python", "env": "\n".join(lines)}


def of_wire(wire: Mapping[str, Any]) -> dict[str, str]:
    """The form for a definition."""
    places = wire.get("runsOn") or {}
    secrets = wire.get("secrets") or {}
    if isinstance(secrets, list):
        secrets = {name: f"{{{name}}}" for name in secrets}
    found = {name: _text(wire.get(name)) for name in (*_TEXTS, *_NUMBERS)}
    return {
        **found,
        "selector": _text(places.get("selector")),
        "command": "\n".join(wire.get("command") or ()),
        **{name: "\n".join(map(str, wire.get(name) or ())) for name in ("args", "assertions")},
        **{name: "\n".join(map(str, places.get(name) or ())) for name in ("tags", "satellites")},
        "env": _map(wire.get("env") or {}),
        "secrets": _map(secrets),
        "core": "yes" if places.get("core") else "",
        "enabled": "" if wire.get("enabled") is False else "yes",
        "keepState": "yes" if wire.get("keepState") else "",
        **{name: json.dumps(wire[name]) if wire.get(name) is not None else "" for name in _DOCUMENTS},
    }


def fits(definition: Definition) -> bool:
    """Whether the fields can hold it: an argument of several lines, say, would become several arguments."""
    try:
        return definition_of(to_wire(of_wire(definition.to_wire()))) == definition
    except FormError:
        return False


def as_text(definition: Definition) -> str:
    """It as the JSON that is edited in place of the fields."""
    wire = {name: value for name, value in definition.to_wire().items() if value not in (None, "", [], {})}
    return json.dumps(wire, indent=2, ensure_ascii=False)


def to_wire(form: Mapping[str, str]) -> dict[str, Any]:
    """The definition that a form means, with null for what was left empty. Raises `FormError`."""
    errors: dict[str, str] = {}
    wire: dict[str, Any] = {}
    for name in _TEXTS:
        text = form.get(name, "")
        wire[name] = (text if name in ("script", "stdin") else text.strip()) or None
    for name in _NUMBERS:
        wire[name] = _number(form, name, errors)
    for name in _DOCUMENTS:
        wire[name] = _document(form, name, errors)
    for name in _MAPS:
        wire[name] = _pairs(form, name, errors)
    for name in ("enabled", "keepState"):
        wire[name] = form.get(name) == "yes"
    wire["args"], wire["assertions"] = _lines(form, "args"), _lines(form, "assertions")
    wire["command"] = _lines(form, "command") or None
    wire["kind"] = "program" if wire["command"] else wire["kind"] or "auto"
    wire["runsOn"] = {
        "core": form.get("core") == "yes",
        "tags": _lines(form, "tags"),
        "satellites": _lines(form, "satellites"),
        "selector": wire.pop("selector"),
    }
    if wire["command"] and wire["script"]:
        errors["command"] = "enter either a script or a command, not both"
    if errors:
        raise FormError(errors)
    if wire["command"]:
        wire.pop("script")
    else:
        wire.pop("command")
    return wire


def whole_of(text: str) -> dict[str, Any]:
    """The definition that was written as JSON. Raises `FormError`."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormError({WHOLE: f"this is not valid JSON: {error}"}) from error
    if not isinstance(found, dict):
        raise FormError({WHOLE: "a definition is a JSON object"})
    return {name: value for name, value in found.items() if name not in (READ_AS, "id")}


def definition_of(wire: Mapping[str, Any]) -> Definition:
    """The check that was meant. Raises `FormError`."""
    given = {name: value for name, value in wire.items() if value is not None or name in ("flapping",)}
    try:
        return Definition.model_validate(given)
    except ValidationError as error:
        raise FormError(errors_of(error)) from error


def errors_of(error: ValidationError) -> dict[str, str]:
    """What is wrong, by field of the form."""
    found: dict[str, str] = {}
    for one in error.errors(include_url=False, include_input=False):
        steps = [str(step) for step in one["loc"]]
        field = _field(steps)
        text = in_words(one)
        where = ".".join(steps[1:])
        found[field] = "; ".join(filter(None, (found.get(field), f"{where}: {text}" if where else text)))
    return found


def problem_of(detail: str) -> str:
    """The field beside which the text of a refusal stands."""
    for word, field in (
        ("named", "name"),
        ("secret", "secrets"),
        ("policy lacks", "needs"),
        ("package", "packages"),
    ):
        if word in detail:
            return field
    return WHOLE


def _field(steps: Sequence[str]) -> str:
    if not steps:
        return WHOLE
    if steps[0] == "runsOn":
        return steps[1] if len(steps) > 1 and steps[1] in _PLACES else "core"
    return steps[0] if steps[0] in FIELDS else WHOLE


def _text(value: object) -> str:
    if value is None:
        return ""
    return exact(value) if isinstance(value, float) else str(value)


def _map(pairs: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}={text}" for name, text in pairs.items())


def _lines(form: Mapping[str, str], name: str) -> list[str]:
    return [line for line in form.get(name, "").splitlines() if line.strip()]


def _number(form: Mapping[str, str], name: str, errors: dict[str, str]) -> float | int | None:
    text = form.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        errors[name] = f"{text[:50]!r} is not a number"
        return None
    return int(value) if name.startswith(("failures", "successes")) and value.is_integer() else value


def _document(form: Mapping[str, str], name: str, errors: dict[str, str]) -> Any:
    text = form.get(name, "").strip()
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        errors[name] = f"this is not valid JSON: {error}"
        return None


def _pairs(form: Mapping[str, str], name: str, errors: dict[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _lines(form, name):
        key, equals, text = line.partition("=")
        if not equals:
            errors[name] = f"write NAME=VALUE; this line has no “=”: {line[:50]!r}"
        found[key.strip()] = text
    return found
