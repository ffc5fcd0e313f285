"""The state directory of a run, and what scripts try with it: to lead its reader astray, to fill it, to see others'."""

from __future__ import annotations

from typing import Any

import pytest
from ringfence.sandbox.processes.spawning.keeping import DEEPEST, MOST_ENTRIES
from ringfence.scripts import RunResult, Stopped

from tests.escapes.conftest import Supervisor, needs_node

COUNT = """
n=$(cat "$RINGFENCE_STATE_DIR/n" 2>/dev/null || echo 0)
echo $((n + 1)) | tee "$RINGFENCE_STATE_DIR/n"
"""
LIST = 'cd "$RINGFENCE_STATE_DIR" && find . -printf "%P %y %m\\n" | sort; cat $(find . -type f) </dev/null'
KiB = 1024


def notes(result: RunResult) -> str:
    return "\n".join(note.note for note in result.sandbox.notes)


def kept(supervisor: Supervisor, script: str, state: bytes = b"", **order: object) -> tuple[RunResult, bytes]:
    result = supervisor.run("shell", script, state=state, **order)
    return result, supervisor.states[0]


@pytest.mark.every_wrapper
def test_a_counter_counts_over_runs(supervisor: Supervisor) -> None:
    state = b""
    for number in (1, 2, 3):
        result, state = kept(supervisor, COUNT, state)
        assert (result.stdout, result.stderr) == (f"{number}\n", "")


@pytest.mark.parametrize(
    ("kind", "script"),
    [
        ("python", "import os\nprint(open(os.environ['RINGFENCE_STATE_DIR'] + '/n').read())"),
        ("bash", 'cat "$RINGFENCE_STATE_DIR/n"'),
        pytest.param(
            "esm",
            "import fs from 'fs'\nconsole.log(fs.readFileSync(process.env.RINGFENCE_STATE_DIR + '/n', 'utf8'))",
            marks=needs_node,
        ),
    ],
)
def test_every_kind_of_script_finds_what_was_kept(
    cold_supervisor: Supervisor, kind: str, script: str
) -> None:
    _, state = kept(cold_supervisor, COUNT)
    assert cold_supervisor.run(kind, script, state=state).stdout.strip() == "1"


@pytest.mark.every_wrapper
def test_files_come_back_as_they_were_and_belong_to_the_script(cold_supervisor: Supervisor) -> None:
    script = """cd "$RINGFENCE_STATE_DIR"
        mkdir -p 'a b/c'; printf 1 >'a b/c/x'; printf 2 >"$(printf 'o\\ndd\\377')"
        printf 3 >run; chmod 755 run; chmod 500 'a b'; printf 4 >closed; chmod 000 closed .; true"""
    _, state = kept(cold_supervisor, script)
    look = "stat -c %a run closed; chmod u+r closed; cat run closed */*/x o*"
    shown, _ = kept(cold_supervisor, f'cd "$RINGFENCE_STATE_DIR"; {look}', state)
    assert (shown.stdout, shown.stderr) == ("755\n0\n3412", "")


@pytest.mark.every_wrapper
def test_the_kernel_holds_its_size(cold_supervisor: Supervisor) -> None:
    policy = {"resources": {"maxStateBytes": 64 * KiB}}
    script = (
        'head -c 65536 /dev/zero >"$RINGFENCE_STATE_DIR/a" && head -c 1 /dev/zero >"$RINGFENCE_STATE_DIR/b"'
    )
    result, state = kept(cold_supervisor, script, policy=policy)
    assert result.exit_code != 0
    assert "No space left on device" in result.stderr
    # What did fit is kept.
    result, _ = kept(cold_supervisor, 'stat -c %s "$RINGFENCE_STATE_DIR/a"', state, policy=policy)
    assert result.stdout == "65536\n"


def test_what_does_not_fit_any_more_is_said_and_not_lost(cold_supervisor: Supervisor) -> None:
    _, state = kept(cold_supervisor, 'head -c 500000 /dev/zero >"$RINGFENCE_STATE_DIR/a"')
    with pytest.raises(AssertionError, match="its state cannot be put into it: it does not fit"):
        kept(cold_supervisor, "true", state, policy={"resources": {"maxStateBytes": 64 * KiB}})


@pytest.mark.every_wrapper
def test_what_is_no_file_is_left_out_and_named(cold_supervisor: Supervisor) -> None:
    script = """
import os, socket
os.chdir(os.environ["RINGFENCE_STATE_DIR"])
os.symlink("/etc/passwd", "link"); os.symlink("/", "root"); os.mkfifo("pipe")
socket.socket(socket.AF_UNIX).bind("socket")
open("two", "w").close(); os.link("two", "names"); open("good", "w").write("good")
"""
    result = cold_supervisor.run("python", script, state=b"")
    state = cold_supervisor.states[0]
    said = notes(result)
    for name, kind in {"link": "a symbolic link", "root": "a symbolic link", "pipe": "a named pipe"}.items():
        assert f"'{name}' ({kind})" in said
    assert "'socket' (a socket)" in said or "socket" in result.stderr
    assert "'two' (a file with several names)" in said
    result, _ = kept(cold_supervisor, LIST, state)
    assert result.stdout == " d 700\ngood f 644\ngood"


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (f"i=0; while [ $i -le {MOST_ENTRIES} ]; do : >$i; i=$((i + 1)); done", "more than 1000 files"),
        ("mkdir -p " + "/".join("d" * (DEEPEST + 1)), "nested more than 8 deep"),
        (f"n={'n' * 250}; mkdir -p $n/$n/$n/$n/$n", "a path in it has more than 1024 bytes"),
        ("truncate -s 1T sparse 2>/dev/null || truncate -s 200M sparse", "more than 1048576 bytes together"),
        ("for n in a b c; do truncate -s 400K $n; done", "more than 1048576 bytes together"),
    ],
)
def test_what_is_too_much_is_not_kept_and_said(
    cold_supervisor: Supervisor, script: str, problem: str
) -> None:
    result, state = kept(cold_supervisor, f'cd "$RINGFENCE_STATE_DIR" && {script}')
    assert result.exit_code == 0, result.stderr
    assert problem in (result.state_error or "")
    assert problem in notes(result)
    assert state == b""


@pytest.mark.slow
def test_files_without_end_are_stopped_as_in_scratch(cold_supervisor: Supervisor) -> None:
    script = """
import os
os.chdir(os.environ["RINGFENCE_STATE_DIR"])
n = 0
while True:
    os.close(os.open(str(n), os.O_CREAT)); n += 1
"""
    policy = {"resources": {"maxScratchBytes": 4096 * KiB}}
    result = cold_supervisor.run("python", script, state=b"", policy=policy)
    assert result.stopped is Stopped.FILES


@pytest.mark.parametrize(
    ("script", "timeout_ms"),
    [("sleep 60", 300), ("kill -9 $$", 60_000), ("head -c 100M /dev/zero", 60_000)],
)
def test_a_run_that_is_ended_leaves_its_state_as_it_was(
    cold_supervisor: Supervisor, script: str, timeout_ms: int
) -> None:
    result, state = kept(cold_supervisor, f"{COUNT}\n{script}", timeout_ms=timeout_ms)
    assert state == b""
    assert "its state is as it was before this run" in notes(result)


def test_a_script_that_fails_keeps_its_state(cold_supervisor: Supervisor) -> None:
    result, state = kept(cold_supervisor, f"{COUNT}\nexit 2")
    assert result.exit_code == 2
    assert kept(cold_supervisor, COUNT, state)[0].stdout == "2\n"


def test_it_is_read_when_every_process_is_gone(cold_supervisor: Supervisor) -> None:
    late = "(while :; do echo x >>late; done) >/dev/null 2>&1 &"
    script = f'cd "$RINGFENCE_STATE_DIR"; {late} until [ -s late ]; do :; done; echo done >early'
    _, state = kept(cold_supervisor, script)
    # A file that grew while it was read would not be as long as was said, and the archive damaged.
    result, _ = kept(cold_supervisor, 'cat "$RINGFENCE_STATE_DIR/early"', state)
    assert result.stdout == "done\n"


def test_a_run_without_state_sees_none(supervisor: Supervisor) -> None:
    result = supervisor.run("shell", 'echo "[$RINGFENCE_STATE_DIR]"; ls -A /tmp/state')
    assert result.stdout == "[]\n"
    assert result.exit_code != 0


def test_another_run_cannot_see_it(cold_supervisor: Supervisor) -> None:
    _, state = kept(cold_supervisor, 'echo "a-secret"-of-mine >"$RINGFENCE_STATE_DIR/n"')
    places = "/tmp /proc/[0-9]*/root/tmp /proc/[0-9]*/cwd/ $RINGFENCE_STATE_DIR"
    looks = f"for i in 1 2 3 4 5; do grep -rs a-secret[-]of-mine {places}; sleep 0.1; done; ls -A $RINGFENCE_STATE_DIR"
    mine = cold_supervisor.order("shell", "sleep 1", state=state)
    others = cold_supervisor.order("shell", looks, state=b"")
    assert cold_supervisor.run_all([mine, others])[1].stdout == ""


@pytest.mark.parametrize(
    "state",
    [
        b"x",
        b"ringfence state 1\nf 644 1 5\nn1",
        b"ringfence state 1\nf 644 4 1\n../n1",
        b"ringfence state 1\nf 644 6 1\n/etc/n1",
        b"ringfence state 1\nf -1 1 1\nn1",
        b"ringfence state 1\nf 644 1 1\nn1f 644 1 1\nn2",
        b"ringfence state 1\nl 777 1 1\nn/",
        b"ringfence state 1\n" + b"f 644 1 1",
    ],
)
def test_a_stored_state_that_is_damaged_refuses_the_run(cold_supervisor: Supervisor, state: bytes) -> None:
    with pytest.raises(AssertionError, match="its state cannot be put into it"):
        kept(cold_supervisor, "true", state)


PLAIN = [
    pytest.param({"policy": {"enabled": False}}, id="disabled"),
    pytest.param({"policy": {"onUnavailable": "degrade"}, "without": ["wrapper"]}, id="landlock"),
]


@pytest.mark.parametrize("how", PLAIN)
def test_without_namespaces_it_is_kept_too_and_its_bound_is_best_effort(
    cold_supervisor: Supervisor, how: dict[str, Any]
) -> None:
    result, state = kept(cold_supervisor, COUNT, **how)
    assert "best effort: while the script runs, its state directory has no bound of its own" in notes(result)
    result, state = kept(
        cold_supervisor, f"{COUNT}\nln -s /etc/passwd $RINGFENCE_STATE_DIR/link", state, **how
    )
    assert (result.stdout, result.stderr) == ("2\n", "")
    assert "'link' (a symbolic link)" in notes(result)
    result, after = kept(
        cold_supervisor, f"{COUNT}\nhead -c 2M /dev/zero >$RINGFENCE_STATE_DIR/b", state, **how
    )
    assert (result.stdout, after) == ("3\n", b"")
    assert "more than 1048576 bytes together" in (result.state_error or "")
