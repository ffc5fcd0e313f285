"""A step's script as a task of the runners: what it is given, ready for this host or for a satellite. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError
from ringfence.redaction import problems
from ringfence.scripts import Task
from ringfence.scripts.tasks.placeholders import escaped

from ringfence_automations.bodies.marked import SecretText
from ringfence_automations.bodies.scripts import RunScriptBody, RunShellBody
from ringfence_automations.service import StepFailed
from ringfence_automations.steps.variables import context_of, variables_of

ScriptBody = RunShellBody | RunScriptBody


class Prepared(NamedTuple):
    """The task, and the variables and the context that its script gets beside."""

    task: Task
    variables: Mapping[str, str]
    context: Mapping[str, Any]


def prepared(body: ScriptBody, values: Mapping[str, Any]) -> Prepared:
    """What is to be run for a step whose templates were filled in. Raises `StepFailed`.

    Threat: what was filled in names a secret, as the runners' placeholders do, and is given it. Mechanism: all of it is
    escaped, and the placeholders of the secrets' texts are of our own making.
    """
    variables = variables_of(values)
    context = context_of(values)
    try:
        task = body.task(
            {variable: f"{{{_text(number)}}}" for number, variable in enumerate(body.secrets)},
            tuple(map(escaped, body.args)),
            {name: escaped(value) for name, value in body.env.items()},
            None if body.stdin is None else escaped(body.stdin),
        )
    except ValidationError as error:
        raise StepFailed(
            f"what its templates were filled in with cannot be given to it: {problems(error)}"
        ) from None
    return Prepared(task, variables.given, context)


def given_for(texts: Mapping[str, SecretText], secrets: Mapping[str, str]) -> dict[str, str]:
    """What a task is given as its secrets: the texts of its variables, and the bare values, which are masked too."""
    whole = {_text(number): text.filled(secrets) for number, text in enumerate(texts.values())}
    return {**whole, **{f"bare-{number}": value for number, value in enumerate(secrets.values())}}


def _text(number: int) -> str:
    return f"text-{number}"
