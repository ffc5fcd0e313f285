"""The Python runner: a waiting, isolated interpreter that compiles and runs its script's file."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from ringfence.sandbox.launch.words import Command, Handed
from ringfence.sandbox.limits.per_process import process_limits
from ringfence.sandbox.numbers import BOOTSTRAP
from ringfence.sandbox.plan.furnish import PACKAGES
from ringfence.sandbox.plan.model import Interpreter, Plan
from ringfence.scripts.choosing.choice import Choice
from ringfence.scripts.interpreters import payload as payloads
from ringfence.scripts.request import ScriptRequest

interpreter = Interpreter.PYTHON


@functools.cache
def _bootstrap() -> bytes:
    return Path(__file__).with_name("python_bootstrap.py").read_bytes()


def command(plan: Plan, environment: Mapping[str, str]) -> Command:
    """The waiting interpreter of a plan.

    It is isolated (`-I`), writes no bytecode (`-B`), and has site packages for scripts with a first line alone (`-S`).
    """
    limits = process_limits(plan.resources) if plan.limited else {}
    return Command(
        arguments=(
            plan.program,
            "-ISB",
            f"/proc/self/fd/{BOOTSTRAP}",
            ",".join(f"{name}={soft}:{hard}" for name, (soft, hard) in limits.items()),
            *([f"{PACKAGES}/python"] if plan.packages else []),
        ),
        environment=tuple(environment.items()),
        bootstrap=_bootstrap(),
    )


def handed(choice: Choice, request: ScriptRequest, environment: Mapping[str, str], directory: str) -> Handed:
    """The script's file, and in the payload its path and what it is given; see `payload.encode`."""
    words = (f"{directory}/{choice.name}", *request.args)
    return Handed(
        payloads.encode(environment, words, request.context), ((choice.name, choice.source or b""),)
    )
