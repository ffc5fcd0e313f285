"""The runner of shell scripts and programs: a waiting `sh`, which runs its own script or becomes what runs another."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from ringfence.sandbox.launch.words import Command, Handed
from ringfence.sandbox.limits.per_process import shell_limits
from ringfence.sandbox.numbers import CHANNEL, LIBRARIES, PAYLOAD
from ringfence.sandbox.plan.furnish import PACKAGES, SCRIPT
from ringfence.sandbox.plan.model import Interpreter, Plan
from ringfence.scripts.choosing.choice import NAMES, Choice
from ringfence.scripts.request import ScriptKind, ScriptRequest

interpreter = Interpreter.SHELL

SHELL = "/bin/sh"

_OWN = f"{SCRIPT}/{NAMES[ScriptKind.SHELL]}"
"""The script for which the waiting shell has the right `$0`: it reads that one itself, which saves an exec."""


def command(plan: Plan, environment: Mapping[str, str]) -> Command:
    """The waiting shell of a plan.

    It sets its limits for good, goes home, waits for a line on the channel, says that the script starts, and reads the
    payload. A shell that cannot set a limit ends with 125 before it says so.
    """
    limits = shell_limits(plan.resources) if plan.limited else ""
    ready = f"exec {_closing(LIBRARIES)};cd;"
    wait = f"IFS= read -r RINGFENCE_GO <&{CHANNEL} || exit 125; echo started >&{CHANNEL}; . /proc/self/fd/{PAYLOAD}"
    # What Node.js requires is looked for there too; a script in Python, or an ES module, has a runner of its own.
    packages = {"NODE_PATH": f"{PACKAGES}/node_modules"} if plan.packages else {}
    return Command(
        arguments=(plan.program, "-c", limits + ready + wait, _OWN),
        environment=(*environment.items(), *packages.items()),
    )


def _closing(descriptors: Iterable[int]) -> str:
    return " ".join(f"{number}<&-" for number in descriptors)


def handed(choice: Choice, request: ScriptRequest, environment: Mapping[str, str], directory: str) -> Handed:
    """What the waiting shell reads: it closes the trusted descriptors, exports the caller's variables, and goes on.

    It is one line, so that all of it is read before any of it is done.
    """
    path = f"{directory}/{choice.name}"
    exports = "".join(f"export {name}={shlex.quote(value)};" for name, value in environment.items())
    if choice.kind is ScriptKind.SHELL and not choice.words and path == _OWN:
        arguments = f"set -- {shlex.join(request.args)};" if request.args else ""
        becoming = f'{arguments}. "$0"'
    else:
        words = choice.words or ((SHELL,) if choice.kind is ScriptKind.SHELL else ())
        file = () if choice.source is None else (path,)
        becoming = f"exec {shlex.join((*words, *file, *request.args))}"
    text = f"unset RINGFENCE_GO;exec {_closing((PAYLOAD, CHANNEL))};{exports}{becoming}\n"
    return Handed(text.encode(), () if choice.source is None else ((choice.name, choice.source),))
