"""Variables that make a program load, run or trace something else than it would."""

from __future__ import annotations

import pytest
from ringfence.sandbox.plan.environment import DENIED_NAMES, DENIED_PREFIXES, PINNED

from tests.escapes.conftest import Supervisor, needs_node

pytestmark = pytest.mark.every_wrapper

LOADED = "loaded-by-a-variable"


def test_no_denied_variable_arrives(supervisor: Supervisor) -> None:
    names = sorted({*DENIED_NAMES, *(f"{prefix}X" for prefix in DENIED_PREFIXES)})
    env = dict.fromkeys(names, LOADED)
    result = supervisor.run("shell", "env", env=env)
    assert LOADED not in result.stdout
    note = next(note.note for note in result.sandbox.notes if note.layer == "environment")
    assert all(name in note for name in names)


def test_pinned_variables_keep_their_values(supervisor: Supervisor) -> None:
    result = supervisor.run("shell", "env", env=dict.fromkeys(PINNED, "/evil"))
    assert "/evil" not in result.stdout
    assert all(f"{name}={value}" in result.stdout.splitlines() for name, value in PINNED.items())


@pytest.mark.parametrize("name", ["a b", "a=b", "a;id", "$(id)", "1A", "", "é"])
def test_a_name_that_is_none_is_dropped_and_never_run(supervisor: Supervisor, name: str) -> None:
    result = supervisor.run("shell", "env", env={name: LOADED})
    assert LOADED not in result.stdout
    assert "uid=" not in result.stdout + result.stderr


@pytest.mark.parametrize("shell", ["#!/bin/sh", "#!/bin/bash"])
def test_no_variable_of_a_shells_own_keeps_it_from_the_script(supervisor: Supervisor, shell: str) -> None:
    """A shell takes no such value, or no value at all: it would end before the script, with a code as of the script."""
    names = ("OPTIND", "UID", "EUID", "PPID", "RANDOM", "SRANDOM", "HISTCMD", "BASH_VERSINFO", "BASH_COMPAT")
    env = dict.fromkeys((*names, "BASH_XTRACEFD", "BASH_ARGV0", "LINENO", "SECONDS", "_"), "x/y z")
    result = supervisor.run("shell", f"{shell}\necho fine", env=env)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "fine\n", "")


@pytest.mark.parametrize("kind", ["shell", "python"])
def test_a_value_that_is_no_text_is_dropped(supervisor: Supervisor, kind: str) -> None:
    script = {"shell": "echo fine", "python": "print('fine')"}[kind]
    result = supervisor.run(kind, script, env={"V": "a\udcff", "W": "\ud800b"})
    assert result.stdout == "fine\n"
    assert "variables that were not passed: V, W" in {note.note for note in result.sandbox.notes}


@pytest.mark.parametrize(
    "value", ["'; echo injected #", "$(echo injected)", "`echo injected`", "\n echo injected\n"]
)
@pytest.mark.parametrize("kind", ["shell", "python"])
def test_a_value_is_data_and_never_code(supervisor: Supervisor, kind: str, value: str) -> None:
    script = {"shell": 'printf %s "$V"', "python": "import os; print(os.environ['V'], end='')"}[kind]
    assert supervisor.run(kind, script, env={"V": value}).stdout == value


def test_python_runs_isolated(supervisor: Supervisor) -> None:
    script = (
        "import sys; print(sys.flags.isolated, sys.flags.no_site, '' in sys.path, sys.dont_write_bytecode)"
    )
    assert supervisor.run("python", script).stdout == "1 1 False True\n"


@needs_node
def test_node_options_are_not_taken(supervisor: Supervisor) -> None:
    env = {"NODE_OPTIONS": "--require=/tmp/evil.js", "NODE_ENV": "production"}
    result = supervisor.run("esm", "console.log(process.env.NODE_OPTIONS, process.env.NODE_ENV)", env=env)
    assert result.stdout == "undefined production\n"
