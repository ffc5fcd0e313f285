"""What runs a script, as it is decided from its kind, its first line, its name and its bytes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ringfence.scripts import ScriptKind, ScriptRequest
from ringfence.scripts.choosing.choice import (
    MOST_LOOKED_AT,
    Choice,
    NotRunnable,
    choose,
    is_for_another_machine,
)
from ringfence.scripts.request import MAX_ARGUMENT_BYTES, MAX_ARGUMENTS, MAX_STDIN_BYTES

SHELL, BASH, PYTHON, ESM, PROGRAM = (
    ScriptKind.SHELL,
    ScriptKind.BASH,
    ScriptKind.PYTHON,
    ScriptKind.ESM,
    ScriptKind.PROGRAM,
)


def chosen(script: str | bytes, name: str = "", kind: ScriptKind = ScriptKind.AUTO) -> Choice:
    return choose(ScriptRequest(kind, script, name=name))


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("#!/bin/sh", SHELL, ()),
        ("#! /bin/sh ", SHELL, ()),
        ("#!/usr/bin/sh", SHELL, ()),
        ("#!/usr/bin/env sh", SHELL, ()),
        ("#!/bin/sh -e", SHELL, ("/bin/sh", "-e")),
        ("#!/bin/bash", BASH, ("/bin/bash",)),
        ("#!/bin/bash -eu", BASH, ("/bin/bash", "-eu")),
        ("#!\t/bin/bash \t-e -u\t", BASH, ("/bin/bash", "-e -u")),
        ("#!/usr/bin/env bash", BASH, ("/usr/bin/env", "bash")),
        ("#!/usr/bin/env -S bash -e", BASH, ("/usr/bin/env", "-S bash -e")),
        ("#!/usr/bin/env python3", PYTHON, ()),
        ("#!/usr/bin/env python3.11", PYTHON, ()),
        ("#!/usr/bin/python3", PROGRAM, ("/usr/bin/python3",)),
        ("#!/usr/bin/python3 -u", PROGRAM, ("/usr/bin/python3", "-u")),
        ("#!/srv/venv/bin/python", PROGRAM, ("/srv/venv/bin/python",)),
        ("#!/usr/bin/env -S python3 -u", PROGRAM, ("/usr/bin/env", "-S python3 -u")),
        ("#!/usr/bin/env pythonic", PROGRAM, ("/usr/bin/env", "pythonic")),
        ("#!/usr/bin/env node", PROGRAM, ("/usr/bin/env", "node")),
        ("#!/usr/bin/perl -w", PROGRAM, ("/usr/bin/perl", "-w")),
        ("#!/usr/bin/awk -f", PROGRAM, ("/usr/bin/awk", "-f")),
        ("#!/bin/dash", PROGRAM, ("/bin/dash",)),
        ("#!/bin/busybox sh", PROGRAM, ("/bin/busybox", "sh")),
    ],
)
def test_the_first_line_is_read_as_the_kernel_reads_it(
    line: str, kind: ScriptKind, words: tuple[str, ...]
) -> None:
    # Neither the name nor what follows says anything against it.
    for script, name in ((line, ""), (f"{line}\nx\n", "x.py"), (f"{line}\r\nx\r\n", "x.weird")):
        choice = chosen(script, name)
        assert (choice.kind, choice.words) == (kind, words)


@pytest.mark.parametrize(
    ("line", "needs"),
    [
        ("#!/bin/sh", ()),
        ("#!/usr/bin/perl -w", ("/usr/bin/perl",)),
        ("#!/usr/bin/env ruby", ("/usr/bin/env", "ruby")),
        ("#!/usr/bin/env ruby -w", ("/usr/bin/env", "ruby -w")),
        ("#!/usr/bin/env -S ruby -w", ("/usr/bin/env", "ruby")),
        ("#!/usr/bin/env -S -i A=b -u C --chdir /tmp /opt/ruby -w", ("/usr/bin/env", "/opt/ruby")),
        ("#!/usr/bin/env --split-string=ruby -w", ("/usr/bin/env", "ruby")),
        ("#!/usr/bin/env -vS ruby", ("/usr/bin/env", "ruby")),
    ],
)
def test_what_a_first_line_names_has_to_be_there(line: str, needs: tuple[str, ...]) -> None:
    assert chosen(line).needs == needs


@pytest.mark.parametrize(
    ("name", "script", "kind", "words"),
    [
        ("a.sh", "echo x", SHELL, ()),
        ("a.SH", "echo x", SHELL, ()),
        ("a.bash", "echo x", BASH, ("bash",)),
        ("a.py", "x", PYTHON, ()),
        ("a.mjs", "x", ESM, ()),
        ("a.js", "import fs from 'fs'", ESM, ()),
        ("a.js", "import{readFile}from'fs'", ESM, ()),
        ("a.js", "export default async () => 1", ESM, ()),
        ("a.js", "const fs = require('fs'); module.exports = 1", PROGRAM, ("node",)),
        ("a.js", "important = 1; exports.x = 1", PROGRAM, ("node",)),
        ("a.cjs", "export default 1", PROGRAM, ("node",)),
        ("a.pl", "print 1", PROGRAM, ("perl",)),
        ("a.awk", "{ print }", PROGRAM, ("awk", "-f")),
        ("a.b.rb", "puts 1", PROGRAM, ("ruby",)),
        ("a.sh", "#!/usr/bin/env node\nexport default 1", ESM, ()),
        ("a", "#!/usr/bin/node\nimport 'fs'", ESM, ()),
        ("a.sh", "#!/usr/bin/python3\nasync def main( context ):\n  pass", PYTHON, ()),
    ],
)
def test_then_the_name_is_asked(name: str, script: str, kind: ScriptKind, words: tuple[str, ...]) -> None:
    choice = chosen(script, name)
    assert (choice.kind, choice.words) == (kind, words)


@pytest.mark.parametrize(
    "text",
    [
        "if [[ $1 -gt 90 ]]; then :; fi",
        "(( x > 1 )) && exit 2",
        "x=(a b)",
        "x+=(c)",
        "function f { :; }",
        "source ./lib",
        "set -euo pipefail",
        'cat <<< "$x"',
        "diff <(a) <(b)",
        "echo ${x^^} ",
        "echo ${x//a/b}",
        "echo ${x:1:2}",
        "echo ${x[0]}",
        "echo $RANDOM",
        "echo ${PIPESTATUS[0]}",
        "make &> log",
        "a |& b",
        "read -ra words",
        "printf -v x %s 1",
        "trap 'exit 2' ERR",
        "declare -A m",
        "x=$'a\\n'",
        'if [ "$a" == "$b" ]; then :; fi',
        "for i in {1..5}; do :; done",
        "cp a{,.bak}",
        "while read x; do [[ $x ]]; done",
        "shopt -s nullglob",
        "for ((i = 0; i < 3; i++)); do :; done",
        "read -r -a words",
        "read",
        "if test a == b; then :; fi",
        "printf '%q' x",
        "local -A m",
        "trap 'exit 2' SIGTERM",
        "echo -e 'a\\tb'",
        "wait -n",
        "if [ -v x ]; then :; fi",
        "echo $((x ** 2))",
        "type -P bash",
        "check-it() { :; }",
        "true && declare -i y",
        "make >& log",
        "ls !(a)",
        "time [[ a ]]",
        "echo " + "x" * MOST_LOOKED_AT,
    ],
)
def test_what_only_bash_understands_is_run_by_bash(text: str) -> None:
    for name, kind in (("a.sh", ScriptKind.AUTO), ("", SHELL)):
        choice = chosen(f"# first\n{text}\n", name, kind)
        assert (choice.kind, choice.words) == (BASH, ("bash",))


@pytest.mark.parametrize(
    "text",
    [
        'if [ "$1" -gt 90 ] && [ "$a" = b ]; then echo "${x:-y} ${x#a} ${x%%b} ${#x}"; fi',
        "x=$(df -P / | awk 'NR == 2 { print $5 }'); echo $((x + 1))",
        "f() { set -- a b; printf '%s\\n' \"$@\" >&2 2>&1; }",
        "while read -r line; do case $line in a|b) ;; *) exit 1;; esac; done < /dev/null",
        "trap 'rm -f x' EXIT; export A=b; set -eu; . ./lib",
        "cat <<EOF\nplain\nEOF",
    ],
)
def test_what_is_written_for_any_shell_stays_with_sh(text: str) -> None:
    assert chosen(text, "a.sh").kind is chosen(text, kind=SHELL).kind is SHELL


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        # All of these would be run, and some end well without having done anything.
        (PYTHON, "#!/bin/bash"),
        (PYTHON, "#!/usr/bin/env node"),
        (BASH, "#!/usr/bin/env python3"),
        (BASH, "#!/bin/zsh"),
        (BASH, "#!/usr/bin/env -S perl -w"),
        (ESM, "#!/usr/bin/python3"),
        (SHELL, "#!/usr/bin/awk -f"),
    ],
)
def test_a_kind_is_not_given_what_says_that_it_is_written_in_another_language(
    kind: ScriptKind, line: str
) -> None:
    with pytest.raises(NotRunnable, match="say kind auto"):
        chosen(f"{line}\nexit\n", kind=kind)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (PYTHON, "#!/usr/bin/env -S uv run --script"),
        (PYTHON, "#!/usr/bin/python3.12 -u"),
        (PYTHON, "#!python"),
        (BASH, "#!/bin/sh"),
        (ESM, "#!/usr/bin/env -S deno run"),
    ],
)
def test_a_kind_takes_a_first_line_of_its_own_language_or_of_one_that_is_not_known(
    kind: ScriptKind, line: str
) -> None:
    assert chosen(f"{line}\n", kind=kind).kind is kind


@pytest.mark.parametrize(
    "line", ["/bin/dash", "/bin/busybox sh", "/usr/bin/env zsh", "/usr/bin/env -S busybox ash"]
)
def test_a_shell_script_is_run_by_the_shell_that_it_names(line: str) -> None:
    choice = chosen(f"#!{line}\ntrue\n", kind=SHELL)
    assert (choice.kind, choice.words) == (PROGRAM, tuple(line.split(" ", 1)))


def test_a_script_of_an_old_system_is_not_one_long_comment() -> None:
    choice = chosen("# checks\rexit 2\r", kind=SHELL)
    assert (choice.source, "CR" in choice.notes[0]) == (b"# checks\nexit 2\n", True)


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("def main(ctx):\n    return 1", PYTHON),
        ("def main():\n    return 1", PYTHON),
        ("main = lambda ctx: 1", PYTHON),
        ("def main(ctx):\n    return 1\nmain(2)", PROGRAM),
        ("import sys\ndef main():\n    return 1\nsys.exit(main())", PROGRAM),
        ("def main():\n    return 1\nif __name__ == '__main__':\n    main()", PROGRAM),
    ],
)
def test_an_entry_point_that_nobody_calls_is_called(script: str, kind: ScriptKind) -> None:
    assert chosen(f"#!/usr/bin/python3\n{script}\n").kind is kind


@pytest.mark.parametrize(
    ("script", "name", "says"),
    [
        ("echo x", "", "nothing says what runs the script"),
        ("", "", "nothing says what runs the script"),
        ("echo x", "check", "nor its name (check)"),
        ("echo x", "check.conf", "nor its name (check.conf)"),
        ("#!python3\n", "a.py", "by its whole path"),
        ("#!\n", "a.py", "by its whole path"),
        ("#!/usr/bin/env\n", "a.py", "names no interpreter"),
        ("#!/usr/bin/env -S A=b\n", "a.py", "names no interpreter"),
        ("#!/usr/bin/env -S 'python3\n", "a.py", "cannot be read"),
        (b"#!/usr/bin/\xff\n", "a.py", "not UTF-8"),
        ("echo x".encode("utf-16"), "a.sh", "UTF-16"),
        ("echo x".encode("utf-16-le"), "a.sh", "UTF-16"),
        ("echo x".encode("utf-16-be"), "a.sh", "UTF-16"),
        ("echo x".encode("utf-32"), "a.sh", "UTF-16 or UTF-32"),
        (b"PK\x03\x04\x00\x00", "a.sh", "is no text"),
    ],
)
def test_what_nothing_certainly_runs_is_refused_with_the_reason(
    script: str | bytes, name: str, says: str
) -> None:
    with pytest.raises(NotRunnable, match=says.replace("(", r"\(").replace(")", r"\)")):
        chosen(script, name)


@pytest.mark.parametrize("kind", [SHELL, BASH, PYTHON, ESM])
def test_no_kind_is_given_what_it_cannot_read(kind: ScriptKind) -> None:
    with pytest.raises(NotRunnable, match="ELF binary"):
        chosen(b"\x7fELF\x02\x01", kind=kind)
    with pytest.raises(NotRunnable, match="UTF-16"):
        chosen("true".encode("utf-16"), kind=kind)


def test_a_binary_is_a_program_and_stays_as_it_is() -> None:
    data = b"\x7fELF\x02\x01\r\n\r\n\x00"
    for name in ("", "x.sh"):
        choice = chosen(data, name)
        assert (choice.kind, choice.words, choice.source, choice.notes) == (PROGRAM, (), data, ())


def test_a_program_of_another_machine_is_told_by_its_header() -> None:
    ours = b"\x7fELF\x02\x01\x01\x00" + bytes(8) + b"\x03\x00\x3e\x00"
    arm = ours[:18] + b"\xb7\x00"
    static = ours[:16] + b"\x02\x00" + ours[18:]
    assert is_for_another_machine(arm, ours)
    assert is_for_another_machine(ours[:12], ours)
    assert not is_for_another_machine(static, ours)


def test_a_text_of_the_kind_program_has_to_name_its_interpreter() -> None:
    assert chosen("#!/bin/sh\n", kind=PROGRAM).words == ("/bin/sh",)
    assert chosen("#!/usr/bin/env python3\n", kind=PROGRAM).words == ("/usr/bin/env", "python3")
    with pytest.raises(NotRunnable, match="needs a first line"):
        chosen("print 1", "a.pl", PROGRAM)


def test_what_other_systems_add_to_text_is_taken_off_and_told() -> None:
    choice = chosen("\ufeffset -e\r\nfalse\r\n", "a.sh")
    assert choice.source == b"set -e\nfalse\n"
    assert len(choice.notes) == 2
    assert chosen("\ufeff#!/bin/bash\r\ntrue\r\n").words == ("/bin/bash",)
    # Mended by hand at the top, and still foreign.
    assert chosen("#!/bin/sh\nfalse\r\nfalse\r\n").source == b"#!/bin/sh\nfalse\nfalse\n"


def test_line_ends_that_are_meant_stay() -> None:
    request = "#!/bin/sh\ncat <<EOF\nGET / HTTP/1.0\r\n\r\nEOF\n"
    choice = chosen(request)
    assert (choice.source, choice.notes) == (request.encode(), ())


def test_a_module_has_a_name_by_which_node_takes_it_for_one() -> None:
    assert [chosen("1", name, ESM).name for name in ("", "a.mjs", "a.js", "a", "package.json")] == [
        "script.mjs",
        "a.mjs",
        "a.js",
        "a.mjs",
        "package.json.mjs",
    ]


@given(st.binary(max_size=200), st.sampled_from(ScriptKind), st.sampled_from(["", "a.sh", "b.py", "c"]))
def test_whatever_the_bytes_are_they_are_run_by_something_or_refused(
    script: bytes, kind: ScriptKind, name: str
) -> None:
    with contextlib.suppress(NotRunnable):
        choice = chosen(script, name, kind)
        assert choice.kind is not ScriptKind.AUTO
        assert choice.name
        # Unless it is a program itself, something is named that runs it.
        assert choice.words or choice.kind in (SHELL, PYTHON, ESM) or script.startswith(b"\x7fELF")


# What cannot be asked for at all


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "either a script or a command"),
        ({"script": "x", "command": ("/bin/true",)}, "not both"),
        ({"command": ("/bin/true",), "kind": "shell"}, "its kind cannot be shell"),
        ({"command": ("true",)}, "absolute path"),
        ({"command": ()}, "absolute path"),
        ({"script": "x", "name": "a/b"}, "without a path"),
        ({"script": "x", "name": ".."}, "without a path"),
        ({"script": "x", "name": "a\nb"}, "without a path"),
        ({"script": "x", "name": "ä" * 101}, "200 bytes"),
        ({"script": "x", "args": ("a", "b\0c")}, "argument 2 holds a zero byte"),
        ({"command": ("/bin/true", "\0")}, "argument 2 holds a zero byte"),
        ({"script": "x", "args": ("\udcff",)}, "argument 1 is not UTF-8"),
        ({"script": "echo \udcff"}, "the script holds half of a surrogate pair"),
        ({"script": "x", "stdin": "\udcff"}, "stdin holds half of a surrogate pair"),
        ({"script": "x", "args": ("",) * (MAX_ARGUMENTS + 1)}, "1000 arguments, not 1001"),
        ({"script": "x", "args": ("x" * MAX_ARGUMENT_BYTES,)}, "131072 bytes together, not 131073"),
        ({"script": "x", "stdin": b"x" * (MAX_STDIN_BYTES + 1)}, "stdin may have 1048576 bytes"),
        ({"script": "x", "stdin": "ä" * (MAX_STDIN_BYTES // 2 + 1)}, "stdin may have 1048576 bytes"),
        ({"script": "x", "facts": {"PATH": "x"}}, "cannot be a fact"),
        ({"script": "x", "facts": {"RINGFENCE_X": "\0"}}, "cannot be a fact"),
        ({"script": "x", "kind": "perl"}, "perl"),
    ],
)
def test_what_no_run_can_be_given_is_refused_when_it_is_asked_for(
    fields: dict[str, object], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        ScriptRequest(**{"kind": "auto", **fields})  # type: ignore[arg-type]


def test_as_much_as_may_be_given_is_taken() -> None:
    ScriptRequest(SHELL, "x", args=("",) * MAX_ARGUMENTS, stdin=b"x" * MAX_STDIN_BYTES)
    ScriptRequest(SHELL, "x", args=("x" * (MAX_ARGUMENT_BYTES - 1),))
