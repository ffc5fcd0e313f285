"""Python begins with a trusted program that was compiled for it before, if it can read that."""

from __future__ import annotations

import marshal
import os
import subprocess
import sys
from importlib.util import MAGIC_NUMBER

import pytest
from ringfence.sandbox.numbers import BOOTSTRAP
from ringfence.scripts.interpreters import python


@pytest.mark.parametrize(
    ("version", "taken"),
    [(MAGIC_NUMBER.hex(), "compiled"), ("a70d0d0b", "source")],
    ids=["our version", "another version"],
)
def test_what_is_compiled_is_taken_by_an_interpreter_of_our_version_alone(version: str, taken: str) -> None:
    compiled = marshal.dumps(compile("print('compiled')", "", "exec"))
    given = os.memfd_create("test")
    os.write(given, f"{version} {len(compiled)}\n".encode() + compiled + b"print('source')")
    os.lseek(given, 0, os.SEEK_SET)
    program = f"import os; os.dup2({given}, {BOOTSTRAP})\n{python._LOAD}"
    done = subprocess.run(
        [sys.executable, "-ISB", "-c", program], pass_fds=(given,), capture_output=True, text=True
    )
    os.close(given)
    assert (done.stdout, done.stderr) == (f"{taken}\n", "")


def test_what_is_compiled_is_the_trusted_program_itself() -> None:
    head, _, rest = python._bootstrap().partition(b"\n")
    version, size = head.decode().split()
    code, source = marshal.loads(rest[: int(size)]), rest[int(size) :]
    assert version == MAGIC_NUMBER.hex()
    assert code == compile(source, f"/proc/self/fd/{BOOTSTRAP}", "exec", dont_inherit=True)
