"""The Python runner: a waiting, isolated interpreter that compiles its script from a memory file."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path

from ringfence.sandbox.launch import BOOTSTRAP, Command
from ringfence.sandbox.limits import process_limits
from ringfence.sandbox.plan import Plan
from ringfence.sandbox.wrapper import PACKAGES
from ringfence.scripts import python_bootstrap


@functools.cache
def _bootstrap() -> bytes:
    return Path(python_bootstrap.__file__).read_bytes()


def command(plan: Plan, environment: Mapping[str, str]) -> Command:
    """The waiting interpreter of a plan:

    isolated (`-I`), without site packages (`-S`), writing no bytecode (`-B`).
    """
    limits = process_limits(plan.resources) if plan.limited else {}
    packages = [PACKAGES] if plan.packages else []
    return Command(
        arguments=(
            plan.program,
            "-ISB",
            f"/proc/self/fd/{BOOTSTRAP}",
            ",".join(f"{name}={soft}:{hard}" for name, (soft, hard) in limits.items()),
            *packages,
        ),
        environment=environment,
        bootstrap=_bootstrap(),
    )


def payload(script: bytes, context: object, environment: Mapping[str, str]) -> bytes:
    """The lengths of the parts, then the parts: the caller's variables, the context as JSON, the script."""
    variables = b"".join(f"{name}={value}\0".encode() for name, value in environment.items())
    encoded = b"" if context is None else json.dumps(context).encode()
    return b"%d %d\n%b%b%b" % (len(variables), len(encoded), variables, encoded, script)
