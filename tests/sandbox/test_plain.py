"""Runs without a sandbox around them: what holds all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.capabilities.found import Missing
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.identities.uids import DEFAULT
from ringfence.sandbox.processes import descent
from ringfence.sandbox.processes.descent import descendants, look_at
from ringfence.scripts import RunResult, ScriptKind, ScriptRequest, Stopped, run_under

from tests.sandbox.processes import everyone, marked_processes, settled

MARK = f"86400.{os.getpid():07}"
"""A time to sleep that tells our own sleepers from those of other tests on this machine."""


async def run_degraded(
    kind: str, script: str, policy: dict[str, Any] | None = None, **request: Any
) -> RunResult:
    """Run as on a host whose namespaces are blocked, and that has no Landlock either."""
    blocked = Missing(reason="exit status 1: No permissions to create new namespace")
    host = replace(
        probe(),
        user_namespaces=blocked,
        network_namespaces=blocked,
        fresh_proc=blocked,
        landlock=Missing(reason="landlock_create_ruleset: Function not implemented"),
    )
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, {"onUnavailable": "degrade", **(policy or {})}))
    return await run_under(snapshot, ScriptRequest(ScriptKind(kind), script, **request), capabilities=host)


@pytest.mark.parametrize("kind", ["shell", "python"])
async def test_a_degraded_run_says_what_does_not_hold(kind: str) -> None:
    script = {"shell": "echo ran; exit 3", "python": "import sys; print('ran'); sys.exit(3)"}[kind]
    result = await run_degraded(kind, script)
    assert (result.exit_code, result.stdout) == (3, "ran\n")
    assert result.sandbox.enforced.model_dump() == {
        "resources": False,
        "filesystem": False,
        "network": False,
        "privilege": True,
        "syscalls": False,
    }
    assert {"filesystem", "network", "resources", "syscalls"} <= {d.layer for d in result.sandbox.downgrades}


async def test_under_fail_nothing_is_spawned_at_all() -> None:
    witness = Path(tempfile.mkdtemp()) / "ran"
    witness.parent.chmod(0o777)
    result = await run_degraded("shell", f"touch {witness}", {"onUnavailable": "fail"})
    assert (result.exit_code, result.refused) == (-1, True)
    assert not witness.exists()
    witness.parent.rmdir()


async def test_it_really_leaves_root_and_keeps_no_group() -> None:
    result = await run_degraded("shell", "id -u; id -G; grep Cap /proc/self/status")
    uid, groups = int(result.stdout.splitlines()[0]), result.stdout.splitlines()[1]
    if os.geteuid() == 0:
        assert uid in DEFAULT
        assert groups == str(uid)
    else:
        assert uid == os.geteuid()
    assert "CapEff:\t0000000000000000" in result.stdout


async def test_limits_and_environment_hold() -> None:
    policy = {"resources": {"maxOpenFiles": 40, "maxFileSizeBytes": 4096}}
    result = await run_degraded("shell", "ulimit -n; ulimit -f; env; ls /proc/self/fd", policy)
    assert result.stdout.splitlines()[:2] == ["40", "8"]
    assert result.stdout.splitlines()[-4:] == ["0", "1", "2", "3"]
    assert not {line.split("=")[0] for line in result.stdout.splitlines()[2:-4]} & {
        "LD_PRELOAD",
        "PYTHONPATH",
    }


@pytest.mark.parametrize("ending", ["exit 0", f"trap '' TERM; sleep {MARK}"], ids=["end", "timeout"])
async def test_nothing_survives(ending: str) -> None:
    daemon = f"( ( setsid nohup sleep {MARK} >/dev/null 2>&1 & ) & ); sleep {MARK} & kill -STOP $!"
    await run_degraded("shell", f"{daemon}\n{ending}", timeout_ms=300)
    assert marked_processes(MARK, everyone) == []


async def test_a_script_that_ends_its_whole_group_does_not_end_what_cleans_up_after_it() -> None:
    daemon = f"setsid sleep {MARK} >/dev/null 2>&1 & until pgrep -f 'sleep {MARK}' >/dev/null; do :; done"
    result = await run_degraded("shell", f"{daemon}; echo ran; kill -TERM 0; sleep {MARK}", timeout_ms=60_000)
    assert (result.exit_code, result.stdout) == (-15, "ran\n")
    assert marked_processes(MARK, everyone) == []


async def test_scratch_is_private_and_gone_afterwards_whatever_was_left_in_it() -> None:
    result = await run_degraded(
        "shell", "pwd; ls -ld . | cut -c1-10; mkdir -p a/b; touch a/b/c; ln -s / r; chmod 0 a/b a"
    )
    scratch, mode = result.stdout.split()
    assert mode == "drwx------"
    assert not Path(scratch).exists()
    assert Path("/etc/passwd").exists()


async def test_without_namespaces_what_the_kernel_tells_in_proc_is_there() -> None:
    assert (await run_degraded("shell", "cat /proc/cmdline")).stdout == Path("/proc/cmdline").read_text()


async def test_a_sandbox_that_is_turned_off_still_reports_truthfully() -> None:
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, {"enabled": False}))
    result = await run_under(snapshot, ScriptRequest(ScriptKind.SHELL, "echo ran"))
    assert result.stdout == "ran\n"
    assert not any(result.sandbox.enforced.model_dump().values())
    assert result.sandbox.notes


NESTED = f"""
export N=0 DEEPER='if [ $N -lt 1100 ]; then N=$((N + 1)) sh -c "$DEEPER"; else echo deep; exec sleep {MARK}; fi; :'
sh -c "$DEEPER"
"""
NAMED = f"""
import ctypes, subprocess
sleeper = subprocess.Popen(["sleep", "{MARK}"])
ctypes.CDLL(None).prctl(15, b"\\xff) Z 1 (", 0, 0, 0)
print("named", flush=True)
sleeper.wait()
"""


@pytest.mark.parametrize(
    ("kind", "script"),
    [
        # A thousand programs, each in the one before.
        pytest.param("shell", NESTED, id="depth", marks=pytest.mark.slow),
        pytest.param("python", NAMED, id="names"),
    ],
)
async def test_nothing_that_a_script_makes_of_its_processes_keeps_them_from_being_killed(
    kind: str, script: str
) -> None:
    await run_degraded("shell", ":")  # Leaves what starts sandboxes, and what cleans up after them.
    await settled()
    before = set(descendants(os.getpid()))
    policy = {"resources": {"maxProcesses": 4000, "maxOutputBytes": 3}}
    result = await run_degraded(kind, script, policy, timeout_ms=60_000)
    assert result.stopped is Stopped.OUTPUT
    assert marked_processes(MARK, everyone) == []
    await settled()
    assert set(descendants(os.getpid())) <= before


def test_what_a_process_calls_itself_is_not_its_state() -> None:
    naming = "import ctypes, time; ctypes.CDLL(None).prctl(15, b'\\xff) Z 1 (', 0, 0, 0)"
    named = f"{naming}; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", named], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seen = look_at(process.pid)
        assert seen is not None
        assert (seen.lives, seen.parent) == (True, os.getpid())
        process.kill()
        assert os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT) is not None
        seen = look_at(process.pid)
        assert seen is not None
        assert not seen.lives


def test_where_the_kernel_lists_no_children_all_processes_are_asked_for_their_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        listed = descendants(os.getpid())
        monkeypatch.setattr(descent, "_CHILDREN", "/nonexistent")
        asked = descendants(os.getpid())
        for pid in descendants(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.kill()
    assert len(listed) >= 2
    assert set(asked) == set(listed)
