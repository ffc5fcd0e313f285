"""What runs a script and what that is given, in real sandboxes of either wrapper, and without any."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.capabilities.found import Missing
from ringfence.sandbox.capabilities.model import Capabilities
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.launch.making import folders
from ringfence.sandbox.launch.making.folders import SHELF, Shelf
from ringfence.sandbox.launch.making.scratch import remove_orphans
from ringfence.sandbox.wrappers.choice import WrapperKind
from ringfence.sandbox.wrappers.find import NSJAIL_SETTING
from ringfence.scripts import RunnerSettings, RunResult, ScriptKind, ScriptRequest
from ringfence.scripts.running.runner import Runner

from tests import nsjail
from tests.primitives import requires
from tests.waiting import until

WRAPPERS = [
    pytest.param("bubblewrap", marks=requires("user namespaces")),
    pytest.param("nsjail", marks=requires("user namespaces", "nsjail")),
]
WITHOUT = [pytest.param("landlock", marks=requires("Landlock scopes")), pytest.param("plain")]
ODD = (
    "",
    " ",
    "two words",
    "it's",
    '"double"',
    "$HOME `id` \\n",
    "-n",
    "--",
    "*",
    "a\nb",
    "\ttab",
    "ünï ☃",
    "\x01",
)

# Each claim is shown with one of them, in turn; with all of them it is slow.
pytestmark = pytest.mark.in_turn("run")


class Run(Protocol):
    async def __call__(self, kind: str, script: str | bytes | None = None, **request: Any) -> RunResult: ...


@pytest.fixture(params=[*WRAPPERS, *WITHOUT])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run under the shipped default, by each wrapper in turn, confined by Landlock alone, and by nothing."""
    monkeypatch.setenv(NSJAIL_SETTING, nsjail.path() or "")
    wrapper = WrapperKind(request.param) if request.param in set(WrapperKind) else WrapperKind.BUBBLEWRAP
    runner = Runner(RunnerSettings(max_concurrent_runs=2, warm_sandboxes=0, wrapper=wrapper))
    host, policy = (
        _host(request.param),
        {} if request.param in set(WrapperKind) else {"onUnavailable": "degrade"},
    )
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, policy))

    async def run(kind: str, script: str | bytes | None = None, **given: Any) -> RunResult:
        wanted = ScriptRequest(ScriptKind(kind), script, **given)
        return await runner.run(snapshot, wanted, capabilities=host)

    yield run
    runner.pool.clear()


def _host(how: str) -> Capabilities | None:
    if how in set(WrapperKind):
        return None
    blocked = Missing(reason="exit status 1: No permissions to create new namespace")
    lacking: dict[str, Any] = dict.fromkeys(("user_namespaces", "network_namespaces", "fresh_proc"), blocked)
    if how == "plain":
        lacking["landlock"] = Missing(reason="landlock_create_ruleset: Function not implemented")
    return replace(probe(), **lacking)


def refusal(result: RunResult) -> str:
    assert result.refused, result
    return "; ".join(one.reason for one in result.sandbox.downgrades if one.layer == "interpreter")


# The script is a file

FILES = {
    "shell": 'echo "$0"; cat "$0" >/dev/null && echo read; { echo x >>"$0"; } 2>/dev/null || echo kept',
    "bash": '[[ $0 = "${BASH_SOURCE[0]}" ]] && echo "$0"; cat "$0" >/dev/null && echo read\n'
    '{ echo x >>"$0"; } 2>/dev/null || echo kept',
    "python": "import sys\nassert sys.argv == [__file__]\nprint(__file__)\nopen(__file__).read()\nprint('read')\n"
    "try:\n    open(__file__, 'a')\nexcept OSError:\n    print('kept')",
    "esm": "import fs from 'node:fs'; import { fileURLToPath } from 'node:url';\n"
    "const [, me] = process.argv; if (fileURLToPath(import.meta.url) !== me) throw new Error(import.meta.url);\n"
    "console.log(me); fs.readFileSync(me); console.log('read');\n"
    "try { fs.appendFileSync(me, 'x') } catch { console.log('kept') }",
    "program": '#!/usr/bin/perl -w\nprint "$0\\n"; open(F, "<", $0) and print "read\\n"; '
    'open(F, ">>", $0) or print "kept\\n";',
}


@pytest.mark.parametrize("name", ["", "my check (1).txt", "-n"])
@pytest.mark.parametrize("kind", FILES)
async def test_a_script_is_a_file_of_its_name_that_it_can_read_and_not_write(
    run: Run, kind: str, name: str
) -> None:
    result = await run(kind, FILES[kind], name=name)
    path, *did = result.stdout.splitlines() or [""]
    assert (result.exit_code, did) == (0, ["read", "kept"]), result
    assert result.kind == kind
    called = name or {"program": "script", "python": "script.py", "esm": "script.mjs"}.get(kind, "script.sh")
    assert Path(path).name == (called if kind != "esm" or not name else f"{name}.mjs")
    # Its own directory holds nothing else.
    assert not Path(path).exists()


async def test_its_directory_is_its_own_and_cannot_be_written_to(run: Run) -> None:
    script = (
        'cd "$(dirname "$0")" && ls -A && { touch more || mv "$0" x || rm -f "$0"; } 2>/dev/null || echo kept'
    )
    result = await run("shell", script, name="a.sh")
    assert result.stdout == "a.sh\nkept\n", result


async def test_an_error_names_the_script_and_the_line(run: Run) -> None:
    shell = await run("shell", "true\nno-such-program\n", name="disk.sh")
    assert "disk.sh: 2:" in shell.stderr or "disk.sh: line 2:" in shell.stderr
    python = await run("python", "def f():\n    1 / 0\nf()", name="disk.py")
    assert 'disk.py", line 2, in f\n    1 / 0' in python.stderr
    esm = await run("esm", "\nthrow new Error('db down')", name="disk.mjs")
    assert "Error: db down" in esm.stderr
    assert "disk.mjs:2:" in esm.stderr


async def test_python_can_look_at_itself(run: Run) -> None:
    script = "import inspect\ndef main(context):\n    return inspect.getsource(main).splitlines()"
    assert (await run("python", script)).value == script.splitlines()[1:]


async def test_a_python_script_that_starts_itself_is_not_started_twice(run: Run) -> None:
    script = "def main(argv=None):\n    print('ran')\nif __name__ == '__main__':\n    main()"
    assert (await run("python", script)).stdout == "ran\n"
    entry = "def main(context):\n    return context\nif __name__ == '__main__':\n    pass"
    assert (await run("python", entry, context=[1])).value == [1]


@pytest.mark.parametrize(
    "script",
    [
        "import functools\ndef w(f):\n    @functools.wraps(f)\n    def g(*args, **more): return f(*args, **more)\n"
        "    return g\n@w\ndef main(context):\n    return context\nif __name__ == '__main__':\n    main([1])",
        "def main(*args):\n    return args[0]",
        "def main(*, context):\n    return context",
        "main = lambda ctx: ctx",
        "class A:\n    def check(self, ctx): return ctx\nmain = A().check",
        "class A:\n    def __call__(self, ctx): return ctx\nmain = A()",
        "import functools\nmain = functools.partial(lambda a, ctx: ctx, 1)",
        "import functools\nasync def f(ctx): return ctx\nmain = functools.partial(f)",
        "def helper(text='main'): ...\ndef main(ctx):  # the main thing\n    return ctx",
    ],
)
async def test_a_main_is_called_in_whatever_way_it_takes_its_context(script: str) -> None:
    result = await _plainly("python", script, context=[2])
    assert (result.value, result.exit_code) == ([2], 0), result


@pytest.mark.parametrize(
    "script",
    [
        "ran = []\ndef main(argv):\n    ran.append(1)\n    print(len(ran))\nmain(['x'])",
        "ran = []\ndef main(argv):\n    ran.append(1)\n    print(len(ran))\ndef cli():\n    main(['x'])\ncli()",
        "class main:\n    pass\nprint(1)",
        "def main(): pass\nprint(1)",
    ],
)
async def test_a_main_that_the_script_starts_itself_or_that_takes_no_context_is_left_alone(
    script: str,
) -> None:
    result = await _plainly("python", script)
    assert (result.stdout, result.value, result.exit_code) == ("1\n", None, 0), result


async def test_a_result_that_is_something_of_the_scripts_own_is_left_alone() -> None:
    script = "import subprocess\nresult = subprocess.run(['/bin/true'])\nprint('fine')"
    result = await _plainly("python", script)
    assert (result.stdout, result.value, result.exit_code) == ("fine\n", None, 0), result
    assert "`result` is a CompletedProcess" in result.stderr
    assert (await _plainly("python", "result = {'a': {1}}")).exit_code == 1


async def test_a_refusal_tells_no_secret() -> None:
    command = ("/opt/hunter2-hunter2/check",)
    result = await _plainly("program", command=command, masked=("hunter2-hunter2",))
    assert result.refused
    assert "hunter2" not in result.model_dump_json()
    assert "/opt/***/check" in result.sandbox.downgrades[-1].reason


async def _plainly(kind: str, script: str | None = None, **request: Any) -> RunResult:
    """Run under no policy: what is tried does not depend on how it is confined."""
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, {"enabled": False}))
    runner = Runner(RunnerSettings(max_concurrent_runs=2, warm_sandboxes=0))
    return await runner.run(snapshot, ScriptRequest(ScriptKind(kind), script, **request))


# What runs it


async def test_a_bash_script_is_not_run_by_sh(run: Run) -> None:
    script = (
        '#!/bin/bash\nused=97\nif [[ $used -gt 90 ]]; then echo CRITICAL; exit 2; fi\necho "OK - disk $used%"'
    )
    result = await run("auto", script)
    assert (result.exit_code, result.stdout, result.kind) == (2, "CRITICAL\n", ScriptKind.BASH)


@pytest.mark.parametrize("script", ["\ufeffset -e\nfalse\necho OK", "\ufeffset -e\r\nfalse\r\necho OK\r\n"])
async def test_a_script_from_another_system_does_what_it_says(run: Run, script: str) -> None:
    result = await run("auto", script, name="check.sh")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "")
    notes = [one.note for one in result.sandbox.notes if one.layer == "interpreter"]
    assert len(notes) == 1 + ("\r" in script)


@pytest.mark.parametrize(
    ("line", "body", "says"),
    [
        ("#!/bin/sh", 'echo "$1"', "one"),
        ("#!/bin/sh -e", "false\necho no", ""),
        ("#!/usr/bin/env bash", '[[ $1 == o* ]] && echo "$1"', "one"),
        ("#!/usr/bin/env -S bash -e", "false\necho no", ""),
        ("#! /usr/bin/perl -w", "print $ARGV[0]", "one"),
        ("#!/usr/bin/env perl", "print $ARGV[0]", "one"),
        ("#!/usr/bin/awk -f", 'BEGIN { printf "%s", ARGV[1] }', "one"),
        ("#!/usr/bin/tail -n+2", "as it is", "as it is"),
        ("#!/usr/bin/env -S A=b sh", 'echo "$A"', "b"),
        ("#!/usr/bin/env python3", "import sys; print(sys.argv[1])", "one"),
    ],
)
async def test_a_first_line_means_what_it_means_on_the_host(
    run: Run, line: str, body: str, says: str
) -> None:
    args = () if "tail" in line else ("one",)
    result = await run("auto", f"{line}\n{body}\n", args=args)
    assert result.stdout.strip() == says, result


async def test_an_elf_file_is_run_itself(run: Run) -> None:
    result = await run("auto", Path("/bin/echo").read_bytes(), name="greet", args=("hello", "you"))
    assert (result.stdout, result.kind) == ("hello you\n", ScriptKind.PROGRAM), result


async def test_a_python_script_with_a_first_line_can_import_what_its_interpreter_has(run: Run) -> None:
    script = "import sys\nprint(any(path.endswith('-packages') for path in sys.path))"
    assert (await run("auto", f"#!/usr/bin/env python3\n{script}")).stdout == "True\n"
    assert (await run("auto", script, name="a.py")).stdout == "False\n"


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("#!/usr/bin/no-such-perl -w\n", "/usr/bin/no-such-perl"),
        ("#!/usr/bin/env no-such-ruby\n", "no-such-ruby"),
        ("#!/etc/passwd\n", "/etc/passwd"),
        ("#!/usr/lib\n", "/usr/lib"),
        ("echo x", "nothing says what runs the script"),
        ("echo x".encode("utf-16"), "UTF-16"),
        (b"\x7fELF\x01\x02" + bytes(58), "another kind of machine"),
    ],
)
async def test_what_nothing_here_runs_is_refused_by_name_and_not_begun(
    run: Run, script: str | bytes, says: str
) -> None:
    result = await run("auto", script)
    assert says in refusal(result)
    assert result.exit_code == -1
    assert result.kind is None


# A command


async def test_a_command_gets_exactly_its_arguments(run: Run) -> None:
    result = await run("program", command=("/usr/bin/printf", "%s|", *ODD), args=("more",))
    assert result.stdout == "".join(f"{each}|" for each in (*ODD, "more"))


async def test_a_command_may_be_a_script_with_an_interpreter_of_its_own(run: Run, tmp_path: Path) -> None:
    found = next(path for path in Path("/usr/bin").iterdir() if _is_perl(path))
    result = await run("program", command=(str(found), "--version"))
    assert not result.refused


def _is_perl(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.is_file() and path.read_bytes()[:15] == b"#!/usr/bin/perl"
    return False


@pytest.mark.parametrize("path", ["/usr/bin/no-such-program", "/usr/bin", "/etc/passwd", "/usr/bin/env/x"])
async def test_a_command_that_is_not_there_is_refused_by_name(run: Run, path: str) -> None:
    assert path in refusal(await run("program", command=(path,)))


@pytest.mark.parametrize("content", ["echo ran\n", "PK\x03\x04"])
async def test_a_command_that_is_neither_a_program_nor_a_script_is_refused_by_name(
    content: str,
) -> None:
    # A shell would run it as a script of its own.
    with tempfile.NamedTemporaryFile("w", suffix=".tool", delete=False) as file:
        file.write(content)
    os.chmod(file.name, 0o755)
    runner = Runner(RunnerSettings(max_concurrent_runs=1, warm_sandboxes=0))
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, {"onUnavailable": "degrade"}))
    wanted = ScriptRequest(ScriptKind.PROGRAM, command=(file.name,))
    result = await runner.run(snapshot, wanted, capabilities=_host("plain"))
    os.unlink(file.name)
    assert "no first line that names its interpreter" in refusal(result)


@pytest.mark.parametrize("policy", [{}, {"filesystem": {"mode": "off"}}], ids=["shipped", "off"])
@pytest.mark.parametrize("wrapped", WRAPPERS)
async def test_a_program_that_only_the_host_has_is_not_there(
    wrapped: str, policy: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where a run sees the host's files, it has a /tmp of its own all the same.
    monkeypatch.setenv(NSJAIL_SETTING, nsjail.path() or "")
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    runner = Runner(RunnerSettings(max_concurrent_runs=1, warm_sandboxes=0, wrapper=WrapperKind(wrapped)))
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, policy))
    for wanted in (
        ScriptRequest(ScriptKind.PROGRAM, command=(str(tool),)),
        ScriptRequest(ScriptKind.AUTO, f"#!{tool}\n"),
    ):
        assert str(tool) in refusal(await runner.run(snapshot, wanted))


# What it is given

GIVEN = {
    "shell": "printf '%s|' \"$@\"",
    "bash": "printf '%s|' \"$@\"",
    "python": "import sys\nprint(*sys.argv[1:], sep='|', end='|')",
    "esm": "process.stdout.write(process.argv.slice(2).join('|') + '|')",
    "program": "#!/usr/bin/perl\nprint join('|', @ARGV), '|'",
}
READING = {
    "shell": "cat",
    "bash": "cat",
    "python": "import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read())",
    "esm": "import fs from 'node:fs'; fs.writeSync(1, fs.readFileSync(0))",
    "program": "#!/usr/bin/perl\nprint while <STDIN>;",
}
ENVIRONMENT = {
    **dict.fromkeys(
        ("shell", "bash"), 'echo "$A|$RINGFENCE_CHECK|$RINGFENCE_TIMEOUT_SECONDS|$RINGFENCE_DEADLINE"'
    ),
    "python": "import os\nprint(*(os.environ.get(n, '') for n in ('A', 'RINGFENCE_CHECK', 'RINGFENCE_TIMEOUT_SECONDS', "
    "'RINGFENCE_DEADLINE')), sep='|')",
    "esm": "const e = process.env;\n"
    "console.log([e.A, e.RINGFENCE_CHECK, e.RINGFENCE_TIMEOUT_SECONDS, e.RINGFENCE_DEADLINE].join('|'))",
    "program": "#!/usr/bin/perl\nprint join('|', @ENV{'A', 'RINGFENCE_CHECK', 'RINGFENCE_TIMEOUT_SECONDS', "
    "'RINGFENCE_DEADLINE'})",
}


@pytest.mark.parametrize("kind", GIVEN)
async def test_arguments_arrive_as_they_were_given(run: Run, kind: str) -> None:
    result = await run(kind, GIVEN[kind], args=ODD)
    assert result.stdout == "".join(f"{each}|" for each in ODD), result


@pytest.mark.parametrize("kind", READING)
async def test_standard_input_arrives_as_it_was_given_whatever_its_length(run: Run, kind: str) -> None:
    line = "\n".join(f"{n} ü" for n in range(9_000)).encode()  # more than a pipe holds (pipe(7))
    for given in (line, b"", b"no newline", "text\n"):
        result = await run(kind, READING[kind], stdin=given)
        assert result.stdout == (given if isinstance(given, str) else given.decode()), result.stderr
    assert (await run(kind, READING[kind])).stdout == ""


async def test_a_standard_input_that_nobody_reads_holds_nothing_up(run: Run) -> None:
    for script in ("echo ran", "exec <&-; echo ran", "head -c 3 >/dev/null; echo ran"):
        assert (await run("shell", script, stdin=b"x" * 1024 * 1024)).stdout == "ran\n"


async def test_without_one_standard_input_is_the_null_device(run: Run) -> None:
    result = await run("shell", "readlink /proc/self/fd/0; { cat </dev/stdin; } && echo readable")
    assert result.stdout.splitlines()[-1] == "readable", result
    assert "memfd" not in result.stdout


@pytest.mark.parametrize("kind", ENVIRONMENT)
async def test_variables_arrive_and_the_supervisors_own_cannot_be_set_by_a_caller(
    run: Run, kind: str
) -> None:
    before = time.time()
    result = await run(
        kind,
        ENVIRONMENT[kind],
        env={"A": "it's $A\n", "RINGFENCE_CHECK": "forged", "RINGFENCE_DEADLINE": "1"},
        facts={"RINGFENCE_CHECK": "disk"},
        timeout_ms=30_500,
    )
    mine, check, seconds, deadline = result.stdout.rsplit("|", 3)
    assert (mine, check, seconds) == ("it's $A\n", "disk", "30.5")
    assert int(before + 30.5) <= int(deadline) <= time.time() + 30.5
    assert any("RINGFENCE_CHECK" in one.note for one in result.sandbox.notes)


# With sandboxes that wait


@pytest.fixture(params=WRAPPERS)
async def warm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runner]:
    """A runner whose sandboxes wait."""
    monkeypatch.setenv(NSJAIL_SETTING, nsjail.path() or "")
    wrapper = WrapperKind(request.param)
    runner = Runner(RunnerSettings(max_concurrent_runs=2, warm_sandboxes=4, wrapper=wrapper))
    yield runner
    for gone in runner.pool.clear():
        gone.result()


@pytest.mark.parametrize("kind", FILES)
async def test_a_sandbox_that_waits_serves_any_script_of_its_runner_with_all_it_is_given(
    warm: Runner, kind: str
) -> None:
    snapshot = PolicySnapshot(DEFAULT_POLICY)
    for number in range(4):
        wanted = ScriptRequest(
            ScriptKind(kind), READING[kind], name=f"{number}.mjs", args=("a",), stdin=f"{number}\n"
        )
        result = await warm.run(snapshot, wanted)
        assert result.stdout == f"{number}\n"
        assert result.timing.warm == (number >= 2)
        await until(lambda: number == 0 or len(warm.pool) > 0)  # noqa: B023
    result = await warm.run(snapshot, ScriptRequest(ScriptKind(kind), FILES[kind], name="x.mjs"))
    assert Path(result.stdout.splitlines()[0]).name == "x.mjs"


# Nothing of it is left


def _places() -> set[Path]:
    return {path for place in ("/dev/shm", "/tmp") for path in Path(place).glob("ringfence-scratch-of-*/*/*")}


@pytest.mark.parametrize("wrapped", WRAPPERS)
async def test_a_scripts_directory_goes_with_its_run_and_nobody_can_list_where_they_are(
    wrapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NSJAIL_SETTING, nsjail.path() or "")
    runner = Runner(RunnerSettings(max_concurrent_runs=1, warm_sandboxes=0, wrapper=WrapperKind(wrapped)))
    for _ in range(2):
        await runner.run(PolicySnapshot(DEFAULT_POLICY), ScriptRequest(ScriptKind.SHELL, "true"))
        ours = list(SHELF._places.values())
        assert ours
        assert [[name for name in os.listdir(place.path) if name != "lock"] for place in ours] == [[]] * len(
            ours
        )
    assert {os.stat(place.path).st_mode & 0o777 for place in ours} == {0o711}


@pytest.mark.parametrize(
    ("places", "hidden", "chosen"),
    [
        ((("/dev/shm", True), ("/tmp", True)), (), "/dev/shm"),
        ((("/dev/shm", False), ("/tmp", True)), (), "/tmp"),
        ((("/dev/shm", True), ("/tmp", False)), ("/dev/shm",), "/tmp"),
        ((("/dev/shm", False), ("/tmp", False)), (), "/dev/shm"),
    ],
)
def test_scripts_are_put_where_programs_can_be_started_if_there_is_such_a_place(
    places: tuple[tuple[str, bool], ...],
    hidden: tuple[str, ...],
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(folders, "_candidates", lambda _: places)
    assert folders.place_for(hidden) == chosen


def test_a_place_that_was_cleaned_away_is_made_again(tmp_path: Path) -> None:
    shelf = Shelf()
    folder = shelf.folder("/script")
    folder.put("a", b"x")
    [place] = shelf._places.values()
    folder.close()
    os.unlink(f"{place.path}/lock")
    os.rmdir(place.path)
    again = shelf.folder("/script")
    again.put("a", b"x")
    assert Path(again.path, "a").stat().st_mode & 0o777 == 0o555
    shelf.remove()
    assert not Path(again.path).exists()


def test_what_a_killed_supervisor_left_is_removed(tmp_path: Path) -> None:
    shelf = Shelf()
    folder = shelf.folder("/script")
    folder.put("a", b"x")
    remove_orphans()
    assert Path(folder.path, "a").exists()
    [place] = shelf._places.values()
    os.close(place.lock)
    shelf._places.clear()
    remove_orphans()
    assert not Path(place.path).exists()


def test_a_umask_takes_nothing_from_the_run(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        shelf = Shelf()
        folder = shelf.folder("/script")
        folder.put("a", b"x")
    finally:
        os.umask(before)
    assert (os.stat(folder.path).st_mode & 0o777, os.stat(f"{folder.path}/a").st_mode & 0o777) == (
        0o755,
        0o555,
    )
    shelf.remove()
