"""Each run has a uid to itself, which no other run of any supervisor of this machine has at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.afterwards import Afterwards
from ringfence.sandbox.capabilities.found import Missing
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.faults import Unavailable
from ringfence.sandbox.identities import leases
from ringfence.sandbox.identities.leases import Lease, NoUidFree, Register
from ringfence.sandbox.identities.uids import (
    BELOW_65536,
    DEFAULT,
    UidRange,
    UidRangeError,
    configured,
    mapped,
    of_root,
)
from ringfence.sandbox.processes import registers
from ringfence.sandbox.workers import Workers
from ringfence.scripts import RunnerSettings, RunnerSettingsError, ScriptKind, ScriptRequest, run_under

from tests.primitives import requires
from tests.sandbox.processes import settled
from tests.sandbox.test_plain import run_degraded
from tests.waiting import until, wait_until

FEW = UidRange(2_000_100_000, 2_000_100_003)


@pytest.fixture
def register(tmp_path: Path) -> Register:
    """A register of this test's own, with three places."""
    return Register(FEW, tmp_path, lambda _: True)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [("700000-700999", 700_000, 700_999), ("700000:1000", 700_000, 700_999), ("1:3", 1, 3)],
)
def test_a_range_is_named_by_its_ends_or_by_its_length(text: str, first: int, last: int) -> None:
    assert UidRange.parse(text) == UidRange(first, last)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "FIRST-LAST or FIRST:COUNT"),
        ("700000", "FIRST-LAST or FIRST:COUNT"),
        ("700000-", "FIRST-LAST or FIRST:COUNT"),
        ("-5-9", "FIRST-LAST or FIRST:COUNT"),
        ("٧-٩", "FIRST-LAST or FIRST:COUNT"),
        ("0-1000", "must lie within"),
        ("4294967000-4294967295", "must lie within"),
        ("700000-700001", "at least 3"),
        ("700999-700000", "at least 3"),
        ("65000-66000", "65534"),
    ],
)
def test_what_is_no_range_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(UidRangeError, match=why):
        UidRange.parse(text)


def test_a_wrong_setting_is_an_error_that_names_it() -> None:
    with pytest.raises(RunnerSettingsError, match="RINGFENCE_UIDS must lie within"):
        RunnerSettings.from_environment({"RINGFENCE_UIDS": "0-9999"})
    assert configured(None) is None


def test_the_ranges_that_are_taken_by_default_are_ranges_that_can_be_set() -> None:
    for each in (DEFAULT, BELOW_65536):
        assert UidRange.parse(str(each)) == each


def test_a_user_namespace_that_does_not_map_the_range_has_another_or_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(_: Path) -> str:
        return text

    monkeypatch.setattr(Path, "read_text", read)
    text = "         0          0 4294967295\n"
    assert of_root() == DEFAULT
    text = "         0       1000          1\n         1     100000      65536\n"
    assert of_root() == BELOW_65536
    assert len(mapped(text)) == 2
    text = "         0       1000          1\n"
    with pytest.raises(Unavailable, match="does not map"):
        of_root()


def test_a_uid_is_leased_once_and_none_is_left_when_all_are(register: Register) -> None:
    held = [register.lease(reaching=False) for _ in range(FEW.places)]

    assert {lease.identity.uid for lease in held} == {FEW.first, FEW.first + 1, FEW.first + 2}
    assert FEW.spawner not in {lease.identity for lease in held}
    with pytest.raises(NoUidFree, match="all 3 uids of 2000100000-2000100003 are in use"):
        register.lease(reaching=False)
    held[1].close()
    assert register.lease(reaching=False).identity == held[1].identity


def test_a_uid_is_not_used_again_before_all_others_were(register: Register) -> None:
    seen = []
    for _ in range(FEW.places):
        lease = register.lease(reaching=False)
        seen.append(lease.identity.uid)
        lease.close()

    assert len(set(seen)) == FEW.places


LEASER = """
import sys, pathlib, json
from ringfence.sandbox.identities.leases import Register, NoUidFree
from ringfence.sandbox.identities.uids import UidRange
register, held = Register(UidRange.parse(sys.argv[1]), pathlib.Path(sys.argv[2]), bool), []
try:
    while True:
        held.append(register.lease(reaching=False))
except NoUidFree:
    print(json.dumps([lease.identity.uid for lease in held]), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def another(place: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Another supervisor, which takes all the uids that it can get, and which those are."""
    with subprocess.Popen(
        [sys.executable, "-c", LEASER, str(FEW), str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


async def test_supervisors_do_not_give_out_the_same_uid_and_a_killed_one_keeps_none(
    register: Register, tmp_path: Path
) -> None:
    mine = register.lease(reaching=False)

    with another(tmp_path) as (process, theirs):
        assert len(theirs) == FEW.places - 1
        assert mine.identity.uid not in theirs
        with pytest.raises(NoUidFree):
            register.lease(reaching=False)
        process.kill()
        process.wait()
        assert register.lease(reaching=False).identity.uid in theirs


def test_a_forked_supervisor_does_not_keep_the_leases_of_its_parent(register: Register) -> None:
    lease = register.lease(reaching=False)
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(tell, b"forked")
        signal.pause()
        os._exit(0)
    try:
        assert os.read(told, 6) == b"forked"
        lease.close()
        taken = [register.lease(reaching=False) for _ in range(FEW.places)]
        assert lease.identity in {each.identity for each in taken}
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(told)
        os.close(tell)


@requires("root")
async def test_a_uid_whose_processes_live_is_not_given_out_whatever_became_of_its_supervisor(
    register: Register,
) -> None:
    lease = register.lease(reaching=False)
    with subprocess.Popen(["sleep", "1000"], user=lease.identity.uid, extra_groups=[]) as process:
        try:
            # As the kernel does when its supervisor is killed.
            lease.forget()
            taken = [register.lease(reaching=False) for _ in range(FEW.places - 1)]
            assert lease.identity not in {each.identity for each in taken}
            with pytest.raises(NoUidFree):
                register.lease(reaching=False)
        finally:
            process.kill()
    assert register.lease(reaching=False).identity == lease.identity


@requires("root")
async def test_a_uid_is_free_only_when_the_last_process_of_its_run_is_gone(register: Register) -> None:
    lease = register.lease(reaching=False)
    with subprocess.Popen(["sleep", "1000"], user=lease.identity.uid, extra_groups=[]) as process:
        lease.close()
        for each in [register.lease(reaching=False) for _ in range(FEW.places - 1)]:
            assert each.identity != lease.identity
        with pytest.raises(NoUidFree):
            register.lease(reaching=False)
        process.kill()

    def free() -> Lease | None:
        with contextlib.suppress(NoUidFree):
            return register.lease(reaching=False)
        return None

    again = wait_until(free, "the uid of a run that has ended")
    assert again is not None
    assert again.identity == lease.identity


@requires("root", "user namespaces")
@pytest.mark.parametrize(
    "policy",
    [{}, {"filesystem": {"mode": "off"}}, {"network": {"mode": "unrestricted"}}],
    ids=["shipped", "off", "linked"],
)
async def test_each_concurrent_run_has_a_uid_of_its_own_and_looks_the_same_inside(
    policy: dict[str, object],
) -> None:
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, policy))
    running = [
        asyncio.create_task(run_under(snapshot, ScriptRequest(ScriptKind.SHELL, "id -u; id -g; sleep 1000")))
        for _ in range(4)
    ]
    try:
        await until(lambda: len(owners(b"sleep\x001000\0")) >= 4)
        outside = owners(b"sleep\x001000\0")
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    assert all(uid in DEFAULT and uid != DEFAULT.last for uid in outside)
    result = await run_under(snapshot, ScriptRequest(ScriptKind.SHELL, "id -u; id -g"))
    assert result.stdout == "65532\n65532\n"
    assert "a uid of the run's own" in result.sandbox.mechanisms["privilege"]


def owners(command: bytes) -> set[int]:
    """Who runs that command, of those in the default range."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cmdline").read_bytes() == command and (owner := process.stat().st_uid) in DEFAULT:
                found.add(owner)
    return found


@requires("root")
async def test_degraded_runs_have_uids_of_their_own_too() -> None:
    results = await asyncio.gather(*(run_degraded("shell", "id -u; id -G; sleep 0.2") for _ in range(3)))

    uids = [tuple(map(int, result.stdout.split())) for result in results]
    assert len({uid for uid, _ in uids}) == 3
    assert all(uid == gid and uid in DEFAULT for uid, gid in uids)


@requires("root", "user namespaces")
async def test_a_uid_that_the_policy_names_is_shared_and_the_report_says_so() -> None:
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, {"privilege": {"uid": 61_000}}))
    result = await run_under(snapshot, ScriptRequest(ScriptKind.SHELL, "id -u"))

    assert result.stdout == "61000\n"
    (note,) = [note.note for note in result.sandbox.notes if note.layer == "privilege"]
    assert note.startswith("runs share uid 61000, and with it what the kernel counts per user")
    assert note.endswith("the policy names privilege.uid")


@requires("root", "user namespaces")
async def test_where_there_are_no_uids_to_give_out_the_report_says_what_is_shared() -> None:
    host = replace(probe(), uids=Missing(reason="none is mapped"))
    result = await run_under(
        PolicySnapshot(DEFAULT_POLICY), ScriptRequest(ScriptKind.SHELL, "id -u"), capabilities=host
    )

    assert result.stdout == "65532\n"
    (note,) = [note.note for note in result.sandbox.notes if note.layer == "privilege"]
    assert "runs share uid 65532" in note
    assert note.endswith("there are no uids to give out (none is mapped)")


@requires("root", "user namespaces")
async def test_all_uids_in_use_refuses_the_run_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full = Register(DEFAULT, tmp_path, lambda _: True)
    monkeypatch.setattr(full, "_try", lambda *_, **__: None)
    monkeypatch.setitem(registers._registers, DEFAULT, full)
    snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, {"resources": {"cpuSeconds": 59}}))
    result = await run_under(snapshot, ScriptRequest(ScriptKind.SHELL, "echo ran"))

    assert (result.refused, result.stdout) == (True, "")
    assert "all 65535 uids of 2000000000-2000065535 are in use" in result.sandbox.downgrades[-1].reason


def test_what_a_byte_of_a_newer_release_says_is_never_taken_for_clean(tmp_path: Path) -> None:
    register = Register(FEW, tmp_path, lambda _: True)
    lease = register.lease(reaching=True)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[lease.identity.uid & 0xFFFF] = 99
    lease.forget()
    path.write_bytes(content)

    taken = [register.lease(reaching=False) for _ in range(FEW.places - 1)]
    assert lease.identity not in {each.identity for each in taken}
    with pytest.raises(NoUidFree):
        register.lease(reaching=False)


@requires("root", "user namespaces")
async def test_what_a_run_leaves_among_the_hosts_files_is_gone_when_its_uid_is_free_again() -> None:
    place = Path(tempfile.mkdtemp(prefix="ringfence-test-", dir="/var/tmp"))
    place.chmod(0o1777)
    try:
        (place / "another's").touch()
        snapshot = PolicySnapshot(overlay(DEFAULT_POLICY, {"filesystem": {"mode": "off"}}))
        script = f"cd {place}; umask 0; mkdir -p open/deep; touch open/deep/file; ln -s /etc/passwd link"
        result = await run_under(snapshot, ScriptRequest(ScriptKind.SHELL, script))
        assert result.exit_code == 0, result.stderr
        await settled()
        assert [path.name for path in place.iterdir()] == ["another's"]
    finally:
        subprocess.run(["rm", "-rf", str(place)], check=True)


async def test_a_uid_whose_leftovers_cannot_be_removed_is_not_used_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    register = Register(FEW, tmp_path, lambda _: False)
    lease = register.lease(reaching=True)
    lease.close()
    await settled()

    taken = [register.lease(reaching=False) for _ in range(FEW.places - 1)]
    assert lease.identity not in {each.identity for each in taken}
    with pytest.raises(NoUidFree, match="something left that could not be removed"):
        register.lease(reaching=False)
    assert f"uid {lease.identity.uid} is not used again" in caplog.text


@requires("root")
def test_a_uid_whose_processes_have_ended_is_free_for_the_next_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are few, nobody may be refused because who frees them comes only now and then."""

    class Idle(Workers):
        def submit(self, *_: Any, **__: Any) -> Future[Any]:
            return Future()

    monkeypatch.setattr(leases, "_LEAVING", Afterwards(Idle(1, "idle"), 0.0, leases._has_left))
    register = Register(FEW, tmp_path, lambda _: True)
    for _ in range(3 * FEW.places):
        lease = register.lease(reaching=False)
        uid = lease.identity.uid
        with subprocess.Popen(["sleep", "1000"], user=uid) as process:
            lease.close()
            process.kill()


async def test_what_the_run_of_a_killed_supervisor_may_have_left_is_removed_by_the_next_one(
    tmp_path: Path,
) -> None:
    cleaned: list[int] = []

    def clean(lease: Lease) -> bool:
        cleaned.append(lease.identity.uid)
        return True

    await settled()
    register = Register(FEW, tmp_path, clean)
    lost = register.lease(reaching=True)
    lost.forget()
    held = [register.lease(reaching=False) for _ in range(FEW.places - 1)]
    with pytest.raises(NoUidFree):
        register.lease(reaching=False)
    await settled()

    assert set(cleaned) == {lost.identity.uid}
    assert register.lease(reaching=False).identity == lost.identity
    assert len(held) == FEW.places - 1
