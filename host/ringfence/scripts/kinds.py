"""The kinds of scripts, and what runs each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ringfence.sandbox.launch.words import Command
from ringfence.sandbox.plan.model import Interpreter, Plan
from ringfence.scripts import esm, python, shell
from ringfence.scripts.request import ScriptKind, ScriptRequest


class Kind(Protocol):
    """A runner of one kind of script, as a module: the program that it needs, its waiting command, its payload."""

    @property
    def interpreter(self) -> Interpreter:
        """The program that runs such scripts."""

    def command(self, plan: Plan, environment: Mapping[str, str]) -> Command:
        """What waits in a sandbox of `plan` for such a script."""

    def payload(self, request: ScriptRequest, environment: Mapping[str, str]) -> bytes:
        """What is handed to it at the start."""


_KINDS: Mapping[ScriptKind, Kind] = {
    ScriptKind.SHELL: shell,
    ScriptKind.PYTHON: python,
    ScriptKind.ESM: esm,
}


def kind_of(kind: ScriptKind) -> Kind:
    """The runner of a kind."""
    return _KINDS[kind]
