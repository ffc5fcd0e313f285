"""What a run does and gives back, in real sandboxes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import threading
from dataclasses import replace

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay, set_policy_provider
from ringfence.sandbox.capabilities.found import Missing
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.limits.counting.tree import Tree, Use
from ringfence.sandbox.policy.provider import clear_policy_provider
from ringfence.scripts import Health, RunResult, ScriptKind, ScriptRequest, Stopped, read, run, run_under

from tests.primitives import requires
from tests.sandbox.conftest import RunScript
from tests.sandbox.processes import descriptors, marked_processes, orphans
from tests.waiting import PATIENCE_SECONDS, in_time, until

pytestmark = requires("user namespaces")

MiB = 1024 * 1024


@pytest.mark.parametrize("kind", ["shell", "python"])
async def test_output_and_status_come_back(run_script: RunScript, kind: str) -> None:
    script = {
        "shell": "echo out; echo err >&2; exit 3",
        "python": "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)",
    }[kind]
    result = await run_script(kind, script)
    assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n", "err\n")
    assert result.stopped is None
    assert all(result.sandbox.enforced.model_dump().values())
    assert result.sandbox.downgrades == ()


async def test_whoever_listens_is_told_what_is_written_while_the_script_runs() -> None:
    heard: list[tuple[str, bytes]] = []
    script = "echo one; echo oh >&2; sleep 1; echo two"
    request = ScriptRequest(
        ScriptKind.SHELL, script, listen=lambda stream, data: heard.append((stream, data))
    )
    running = asyncio.create_task(run_under(PolicySnapshot(DEFAULT_POLICY), request))
    await until(lambda: len(heard) >= 2, "something is heard")
    assert not running.done()
    result = await running
    assert b"".join(data for stream, data in heard if stream == "stdout").decode() == result.stdout
    assert b"".join(data for stream, data in heard if stream == "stderr").decode() == result.stderr == "oh\n"


async def test_nobody_hears_a_run_that_is_given_secrets() -> None:
    heard: list[bytes] = []
    request = ScriptRequest(
        ScriptKind.SHELL,
        'echo "$TOKEN"',
        secret_env={"TOKEN": "s3cr3t-word"},
        listen=lambda _, data: heard.append(data),
    )
    result = await run_under(PolicySnapshot(DEFAULT_POLICY), request)
    assert (result.stdout, heard) == ("***\n", [])


async def test_the_json_form_has_the_agreed_names(run_script: RunScript) -> None:
    wire = (await run_script("shell", ":")).model_dump(mode="json", by_alias=True)
    assert {
        "exitCode",
        "stdout",
        "stderr",
        "timedOut",
        "outputTruncated",
        "durationMs",
        "value",
        "timing",
        "sandbox",
    } <= set(wire)
    assert {"requested", "enforced", "downgrades", "notes", "platform"} <= set(wire["sandbox"])
    json.dumps(wire)


async def test_run_without_a_provider_is_fail_closed_and_says_so() -> None:
    clear_policy_provider()
    result = await run(ScriptRequest("shell", "echo ran"))  # type: ignore[arg-type]
    assert result.stdout == "ran\n"
    assert result.sandbox.origin.source == "fail-closed"
    assert "no policy provider" in (result.sandbox.origin.reason or "")


async def test_run_asks_the_provider_each_time() -> None:
    revisions = iter([1, 2])

    async def provider() -> PolicySnapshot:
        return PolicySnapshot(PolicySnapshot.default().policy, revision=next(revisions))

    set_policy_provider(provider)
    try:
        request = ScriptRequest("shell", ":")  # type: ignore[arg-type]
        assert [(await run(request)).sandbox.origin.revision for _ in range(2)] == [1, 2]
    finally:
        clear_policy_provider()


async def test_python_gets_its_context_and_gives_a_value_back(run_script: RunScript) -> None:
    script = "def main(context):\n    print('noise')\n    return {'sum': sum(context['n']), 'text': 'ü'}"
    result = await run_script("python", script, context={"n": [1, 2, 3]})
    assert result.value == {"sum": 6, "text": "ü"}
    assert result.stdout == "noise\n"


async def test_python_top_level_code_gives_back_its_result(run_script: RunScript) -> None:
    result = await run_script("python", "result = [context, __name__]", context="c")
    assert result.value == ["c", "__main__"]


async def test_a_main_without_a_parameter_is_the_scripts_own_affair(run_script: RunScript) -> None:
    script = "def main():\n    print('once')\nif __name__ == '__main__':\n    main()"
    result = await run_script("python", script)
    assert (result.stdout, result.value) == ("once\n", None)


async def test_python_main_may_be_async(run_script: RunScript) -> None:
    result = await run_script("python", "async def main(context):\n    return context", context=5)
    assert result.value == 5


async def test_a_value_that_is_too_large_is_said_to_be(run_script: RunScript) -> None:
    result = await run_script("python", "result = 'x' * 2_000_000")
    assert result.value is None
    assert "larger than" in (result.value_error or "")
    assert result.stopped is Stopped.VALUE


async def test_a_value_that_never_ends_is_not_read_to_its_end(run_script: RunScript) -> None:
    script = "import os\nwhile True: os.write(4, b'x' * 65536)"
    result = await run_script("python", script, timeout_ms=60_000)
    assert (result.stopped, result.value, result.timed_out) == (Stopped.VALUE, None, False)
    assert "larger than" in (result.value_error or "")


async def test_printing_cannot_forge_a_value(run_script: RunScript) -> None:
    result = await run_script("python", "import sys\nfor s in (sys.stdout, sys.stderr): s.write('{\"v\":1}')")
    assert result.value is None


async def test_a_python_error_shows_the_scripts_own_lines_only(run_script: RunScript) -> None:
    result = await run_script("python", "def f():\n    1 / 0\nf()")
    assert result.exit_code == 1
    assert 'File "/tmp/script/script.py", line 2, in f' in result.stderr
    assert "bootstrap" not in result.stderr
    assert "1 / 0" in result.stderr


async def test_a_python_syntax_error_is_shown_as_one(run_script: RunScript) -> None:
    result = await run_script("python", "def f(:\n")
    assert result.exit_code == 1
    assert "SyntaxError" in result.stderr


async def test_shell_line_numbers_are_the_scripts_own(run_script: RunScript) -> None:
    result = await run_script("shell", "#!/bin/sh\n\nno-such-program", env={"A": "1"})
    assert "sh: 3:" in result.stderr or "line 3" in result.stderr
    assert result.exit_code == 127


@pytest.mark.parametrize("script", ["echo (", "if true; then\necho ran\nfi fi", "'"])
async def test_a_shell_script_that_cannot_be_read_is_its_own_error_and_no_refusal(
    run_script: RunScript, script: str
) -> None:
    result = await run_script("shell", script, env={"A": "1"})
    assert (result.exit_code, result.stdout, result.stopped) == (2, "", None)
    assert "yntax error" in result.stderr
    assert result.sandbox.enforced.filesystem


async def test_a_five_megabyte_script_runs(run_script: RunScript) -> None:
    filler = "# " + "x" * 1000 + "\n"
    script = filler * 5000 + "echo end"
    assert (await run_script("shell", script)).stdout == "end\n"
    assert (await run_script("python", filler * 5000 + "print('end')")).stdout == "end\n"


async def test_the_callers_variables_arrive_as_they_are_and_dangerous_ones_do_not(
    run_script: RunScript,
) -> None:
    env = {"GREETING": "it's a\n'multi' $line \\ \"ü\"", "LD_PRELOAD": "/tmp/x.so", "PATH": "/evil"}
    shell = await run_script("shell", 'printf %s "$GREETING$LD_PRELOAD"; echo "$PATH" >&2', env=env)
    assert shell.stdout == env["GREETING"]
    assert "/evil" not in shell.stderr
    assert any("LD_PRELOAD, PATH" in note.note for note in shell.sandbox.notes)
    python = await run_script("python", "import os; print(os.environ['GREETING'], end='')", env=env)
    assert python.stdout == env["GREETING"]


async def test_nothing_of_the_supervisors_environment_comes_in(
    run_script: RunScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    assert "hunter2" not in (await run_script("shell", "env; cat /proc/*/environ")).stdout


@pytest.mark.parametrize("kind", ["shell", "python", "esm"])
async def test_no_descriptor_beyond_the_standard_ones_reaches_the_scripts_children(
    run_script: RunScript, kind: str
) -> None:
    script = {
        "shell": "ls /proc/self/fd",
        "python": "import subprocess; subprocess.run(['ls', '/proc/self/fd'], close_fds=False)",
        "esm": "import c from 'node:child_process'; c.execFileSync('ls', ['/proc/self/fd'], {stdio: 'inherit'})",
    }[kind]
    # ls itself opens one more, to list.
    assert (await run_script(kind, script)).stdout.split() == ["0", "1", "2", "3"]


async def test_the_wall_clock_ends_a_run_and_keeps_what_it_had_said(run_script: RunScript) -> None:
    result = await run_script("shell", "echo before; while :; do :; done", timeout_ms=1000)
    assert (result.timed_out, result.stopped, result.exit_code) == (True, Stopped.TIMEOUT, -9)
    assert result.stdout == "before\n"


async def test_output_stops_at_the_cap_counted_over_both_streams(run_script: RunScript) -> None:
    policy = {"resources": {"maxOutputBytes": 100_000}}
    result = await run_script("shell", "yes & yes >&2", policy=policy)
    assert result.output_truncated
    assert result.stopped is Stopped.OUTPUT
    assert len(result.stdout) + len(result.stderr) == 100_000


async def test_output_of_exactly_the_cap_is_not_truncated(run_script: RunScript) -> None:
    policy = {"resources": {"maxOutputBytes": 1000}}
    result = await run_script("shell", "head -c 1000 /dev/zero", policy=policy)
    assert not result.output_truncated
    assert (result.exit_code, len(result.stdout)) == (0, 1000)


async def test_the_cap_never_splits_a_code_point(run_script: RunScript) -> None:
    policy = {"resources": {"maxOutputBytes": 1000}}
    result = await run_script("python", "print('€' * 10_000)", policy=policy)
    assert set(result.stdout) == {"€"}


async def test_output_that_is_not_utf8_is_replaced(run_script: RunScript) -> None:
    result = await run_script("shell", r"printf 'a\377\376b\342\202'")
    assert result.stdout == "a\ufffd\ufffdb\ufffd"


async def test_esm_gets_its_context_and_gives_a_value_back(run_script: RunScript) -> None:
    script = (
        "import os from 'node:os'; export default async (c) => ({n: c.n + 1, user: os.userInfo().username})"
    )
    result = await run_script("esm", script, context={"n": 1})
    assert (result.value, result.stderr) == ({"n": 2, "user": "sandbox"}, "")


async def test_esm_may_export_a_plain_value_or_none(run_script: RunScript) -> None:
    assert (await run_script("esm", "export default [1]")).value == [1]
    assert (await run_script("esm", "console.log(1)")).value is None


async def test_an_esm_error_is_shown_and_fails_the_run(run_script: RunScript) -> None:
    result = await run_script("esm", "\nthrow new Error('no')")
    assert result.exit_code == 1
    assert "Error: no" in result.stderr
    assert "script.mjs:2" in result.stderr


async def test_a_cancelled_run_leaves_nothing(run_script: RunScript) -> None:
    task = asyncio.create_task(run_script("shell", "exec sleep 1000.25"))
    await until(lambda: marked_processes("1000.25"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not marked_processes("1000.25")


async def test_a_script_whose_memory_takes_long_to_be_summed_holds_up_nobody_else(
    run_script: RunScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a hundred processes that share 200 MiB: the kernel takes half a second for those."""
    looking, go_on = threading.Event(), threading.Event()

    def slow(tree: Tree, memory_limit: int | None) -> Use:
        if not looking.is_set():
            looking.set()
            assert go_on.wait(2 * PATIENCE_SECONDS), "the loop stood still meanwhile"
        return look(tree, memory_limit)

    look = Tree.look
    monkeypatch.setattr(Tree, "look", slow)
    hostile = asyncio.create_task(run_script("shell", "sleep 0.5", timeout_ms=60_000))
    try:
        # That this goes on while somebody looks is what is tested.
        await until(looking.is_set)
        async with in_time("another run ends while somebody looks"):
            other = await run_script("shell", "echo ran")
    finally:
        go_on.set()
    assert other.stdout == "ran\n"
    assert (await hostile).exit_code == 0


UNDER_WAY = """
import array, os, socket, subprocess
many = array.array('i', [0] * 253)
kept = []
try:
    while True:
        kept.append(socket.socketpair())
        for _ in range(4):
            kept[-1][0].sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, many)])
except OSError as error:
    print(error.errno, flush=True)
subprocess.run(['sleep', '1000.375'], close_fds=False)
"""


@requires("root")
async def test_a_script_that_has_too_many_descriptors_under_way_is_nobody_elses_trouble(
    run_script: RunScript,
) -> None:
    # What may be under way is counted for a uid as a whole, the spawner's and that of all sandboxes; so not for the
    # uid that everybody else on this machine has.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    policy = {
        "privilege": {"uid": 64_999},
        "resources": {"maxOpenFiles": min(max(soft, 1024), 200_000)},
    }
    before = orphans(64_999)
    hostile = asyncio.create_task(run_script("python", UNDER_WAY, policy=policy, timeout_ms=60_000))
    try:
        await until(lambda: marked_processes("1000.375") or hostile.done())
        assert not hostile.done()
        other = await run_script("shell", "echo fine", policy={"privilege": {"uid": 64_999}})
        assert not hostile.done(), "the spawner is gone, and every run with it"
        assert other.stdout == "fine\n" or (hard <= soft and "Too many references" in str(other.sandbox))
    finally:
        hostile.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await hostile
    after = await run_script("shell", "echo fine", policy={"privilege": {"uid": 64_999}})
    assert after.stdout == "fine\n"
    await until(lambda: orphans(64_999) <= before)


async def test_many_runs_at_once_each_get_their_own_answer(run_script: RunScript) -> None:
    results = await asyncio.gather(*(run_script("shell", f"echo {n}") for n in range(24)))
    assert [result.stdout for result in results] == [f"{n}\n" for n in range(24)]


async def test_a_run_leaves_no_descriptor_open_in_the_supervisor(run_script: RunScript) -> None:
    # What every run of a kind is given is kept.
    await run_script("shell", ":")
    await run_script("python", "")
    before = await descriptors()
    for _ in range(5):
        await run_script("shell", ":")
        await run_script("python", "while True: pass", timeout_ms=50)
    assert await descriptors() == before


async def test_under_fail_a_downgrade_refuses_and_nothing_is_spawned() -> None:
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, {"network": {"allow": ["10.0.0.1"]}}))
    without_nft = replace(probe(), nft=Missing(reason="nft is not installed"))
    request = ScriptRequest(ScriptKind.SHELL, "echo ran")

    result = await run_under(snapshot, request, capabilities=without_nft)

    assert result.refused
    assert (result.exit_code, result.stdout) == (-1, "")


def test_a_reason_that_a_newer_satellite_gives_for_a_stop_is_read_and_readd() -> None:
    report = {"requested": {}, "origin": {"source": "default"}}
    result = RunResult.model_validate({"exitCode": -9, "stopped": "something newer", "sandbox": report})
    assert result.stopped is Stopped.OTHER
    assert read(result).status is Health.UNKNOWN
