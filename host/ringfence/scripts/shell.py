"""The shell runner: a waiting `sh` that reads its script from a memory file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from ringfence.sandbox.launch.words import Command
from ringfence.sandbox.limits.per_process import shell_limits
from ringfence.sandbox.numbers import CHANNEL, LIBRARIES, PAYLOAD
from ringfence.sandbox.plan.model import Interpreter, Plan
from ringfence.scripts.request import ScriptRequest

interpreter = Interpreter.SHELL


def command(plan: Plan, environment: Mapping[str, str]) -> Command:
    """The waiting shell of a plan.

    It sets its limits for good, waits for a line on the channel, says that the script starts, and reads the payload in
    its own process, so that a start costs no exec. A shell that cannot set a limit ends with 125 before it says so.
    """
    limits = shell_limits(plan.resources) if plan.limited else ""
    wait = f"IFS= read -r RINGFENCE_GO <&{CHANNEL} || exit 125; echo started >&{CHANNEL}; . /proc/self/fd/{PAYLOAD}"
    return Command(
        arguments=(plan.program, "-c", limits + wait, "sh"), environment=tuple(environment.items())
    )


def payload(request: ScriptRequest, environment: Mapping[str, str]) -> bytes:
    """The script behind a prologue on its own first line, so that line numbers stay what they are.

    The prologue closes the trusted descriptors for the script and its children, and exports the caller's variables.
    It is read together with the script's first command, and never run if that cannot be read.
    """
    exports = "".join(f"export {name}={shlex.quote(value)};" for name, value in environment.items())
    closing = " ".join(f"{number}<&-" for number in (PAYLOAD, CHANNEL, *LIBRARIES))
    prologue = f"unset RINGFENCE_GO;exec {closing};{exports}cd;"
    return prologue.encode() + request.source
