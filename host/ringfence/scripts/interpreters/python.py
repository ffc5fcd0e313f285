"""The Python runner: a waiting, isolated interpreter that compiles and runs its script's file."""

from __future__ import annotations

import functools
import marshal
from collections.abc import Mapping
from importlib.util import MAGIC_NUMBER
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


_LOAD = f"""
import marshal, sys
with open({BOOTSTRAP}, "rb", 0, closefd=False) as file:
    head, _, rest = file.read().partition(b"\\n")
version, size = head.split()
own = getattr(sys.modules.get("_frozen_importlib_external"), "MAGIC_NUMBER", b"").hex().encode()
compiled, source = rest[:int(size)], rest[int(size):]
code = marshal.loads(compiled) if version == own else compile(source, "/proc/self/fd/{BOOTSTRAP}", "exec")
exec(code, {{"__name__": "__main__"}})
"""
"""What an interpreter does first: it takes the trusted program as it was compiled here, or as its source.

To compile it takes a millisecond, which every run would pay. Whether another interpreter can read what this one has
compiled is told by a number, which changes with the format (`importlib.util.MAGIC_NUMBER`).
"""


@functools.cache
def _bootstrap() -> bytes:
    """The trusted program for `_LOAD`: for whom it is compiled, how long that is, and both of its forms."""
    source = Path(__file__).with_name("python_bootstrap.py").read_bytes()
    compiled = marshal.dumps(compile(source, f"/proc/self/fd/{BOOTSTRAP}", "exec", dont_inherit=True))
    return b"%b %d\n%b%b" % (MAGIC_NUMBER.hex().encode(), len(compiled), compiled, source)


def command(plan: Plan, environment: Mapping[str, str]) -> Command:
    """The waiting interpreter of a plan.

    It is isolated (`-I`), writes no bytecode (`-B`), and has site packages for scripts with a first line alone (`-S`).
    """
    limits = process_limits(plan.resources) if plan.limited else {}
    return Command(
        arguments=(
            plan.program,
            "-ISB",
            "-c",
            _LOAD,
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
