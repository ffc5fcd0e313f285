"""The ESM runner: a waiting Node.js that imports its script as a module."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping
from pathlib import Path

from ringfence.sandbox.launch.words import Command, Handed
from ringfence.sandbox.limits.per_process import shell_limits
from ringfence.sandbox.numbers import BOOTSTRAP, LIBRARIES
from ringfence.sandbox.plan.furnish import PACKAGES
from ringfence.sandbox.plan.model import Interpreter, Plan
from ringfence.scripts.choosing.choice import Choice
from ringfence.scripts.interpreters import payload as payloads
from ringfence.scripts.request import ScriptRequest

interpreter = Interpreter.NODE

HEAP_SHARE = 0.75
"""How much of a run's memory V8's heap may take; the rest is for the program, its stacks and buffers."""

_LOAD = f'new Function("require", require("fs").readFileSync({BOOTSTRAP}, "utf8"))(require)'
"""Node cannot run a program from a descriptor, but it can read one."""


@functools.cache
def _bootstrap() -> bytes:
    return Path(__file__).with_name("esm_bootstrap.js").read_bytes()


def command(plan: Plan, environment: Mapping[str, str]) -> Command:
    """The waiting Node.js of a plan. It cannot limit itself, so a shell sets the limits and becomes it."""
    heap = max(int(plan.resources.memory_bytes * HEAP_SHARE) // 1024**2, 8)
    words = [plan.program, f"--max-old-space-size={heap}", "--disable-warning=ExperimentalWarning"]
    words += ["-e", _LOAD]
    limits = shell_limits(plan.resources) if plan.limited else ""
    closing = " ".join(f"{number}<&-" for number in LIBRARIES)
    return Command(
        arguments=("/bin/sh", "-c", f"{limits}exec {shlex.join(words)} {closing}", "sh"),
        environment=tuple(environment.items()),
        bootstrap=_bootstrap(),
        # Packages are looked for by name beside the script.
        links=(("node_modules", f"{PACKAGES}/node_modules"),) if plan.packages else (),
    )


def handed(choice: Choice, request: ScriptRequest, environment: Mapping[str, str], directory: str) -> Handed:
    """The script's file, and in the payload its path and what it is given; see `payload.encode`."""
    words = (f"{directory}/{choice.name}", *request.args)
    files = [(choice.name, choice.source or b"")]
    if not choice.name.endswith(".mjs"):
        # By such a name, Node.js asks this file whether it is a module.
        files.append(("package.json", b'{"type":"module"}\n'))
    return Handed(payloads.encode(environment, words, request.context), tuple(files))
