"""The kinds of scripts, and what runs each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ringfence.sandbox.launch.words import Command, Handed
from ringfence.sandbox.plan.model import Interpreter, Plan
from ringfence.scripts.choosing.choice import Choice
from ringfence.scripts.interpreters import esm, python, shell
from ringfence.scripts.request import ScriptKind, ScriptRequest


class Kind(Protocol):
    """A runner, as a module: the program that it needs, its waiting command, and what that is handed."""

    @property
    def interpreter(self) -> Interpreter:
        """The program that waits."""

    def command(self, plan: Plan, environment: Mapping[str, str]) -> Command:
        """What waits in a sandbox of `plan` for such a script."""

    def handed(
        self, choice: Choice, request: ScriptRequest, environment: Mapping[str, str], directory: str
    ) -> Handed:
        """What it is handed at the start. `directory` is where the script's file is for it."""


_KINDS: Mapping[ScriptKind, Kind] = {
    ScriptKind.SHELL: shell,
    ScriptKind.BASH: shell,
    ScriptKind.PROGRAM: shell,
    ScriptKind.PYTHON: python,
    ScriptKind.ESM: esm,
}


def runner_of(kind: ScriptKind) -> Kind:
    """The runner of a kind that is not `AUTO`."""
    return _KINDS[kind]
