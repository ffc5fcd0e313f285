"""Which cgroups v1 a supervisor uses, as root and as an ordinary user: named ones, and those of its unit."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ringfence.scripts import Stopped

from tests.cgroups import units
from tests.cgroups.conftest import Start, start
from tests.cgroups.test_delegation import SUMMED, mechanism
from tests.cgroups.test_limits import BOMB, POLICY, SCRATCH
from tests.escapes import reach
from tests.escapes.conftest import Supervisor
from tests.primitives import lacking, requires
from tests.sandbox.test_legacy import mounted
from tests.waiting import wait_until

__all__ = ["start"]

pytestmark = requires("root", "cgroup v1", "user namespaces")

LIMITED = "memory.limit_in_bytes of the run's own cgroup (v1)"
NEEDED = ("memory", "pids", "cpuacct")
OWNERS = pytest.mark.parametrize("uid", [0, reach.OTHER_UID], ids=["root", "uid-65532"])


@contextlib.contextmanager
def made(hierarchies: Sequence[str], owner: int) -> Iterator[list[Path]]:
    """A cgroup of the same name in each hierarchy, owned by a user. What is in them has ended."""
    name = f"ringfence-test-{secrets.token_hex(4)}"
    places = [mounted(each) / name for each in hierarchies]
    for place in places:
        place.mkdir()
        for given in (place, place / "cgroup.procs"):
            os.chown(given, owner, owner)
    try:
        yield places
    finally:
        for place in places:
            assert units.runs_in(place) == []
            wait_until(lambda place=place: not (place / "cgroup.procs").read_text(), "all in it have ended")  # type: ignore[misc]
            place.rmdir()


def holds(process: subprocess.Popen[str], uid: int) -> None:
    """The kernel keeps both limits of the runs of this supervisor."""
    supervisor = Supervisor(process, uid, warm=False)
    result = supervisor.run("python", SCRATCH, policy=POLICY)
    assert LIMITED in result.sandbox.mechanisms["memoryBytes"]
    assert "pids.max" in result.sandbox.mechanisms["maxProcesses"]
    assert (result.stopped, result.exit_code) == (Stopped.MEMORY, -9), result.stdout + result.stderr
    bomb = supervisor.run("python", BOMB, policy={"resources": {"maxProcesses": 20}})
    assert int(bomb.stdout) == 19
    assert bomb.timing.cpu_ms is not None


@pytest.mark.slow
def test_an_ordinary_user_uses_named_directories_that_it_owns(start: Start) -> None:
    uid = reach.OTHER_UID
    with (
        made(NEEDED, uid) as (memory, *_),
        start(mounted("pids"), uid, {"RINGFENCE_CGROUP": str(memory)}) as process,
    ):
        holds(process, uid)


def test_named_directories_of_somebody_elses_are_not_used(start: Start) -> None:
    uid = reach.OTHER_UID
    with (
        made(NEEDED, 0) as (memory, *_),
        start(mounted("pids"), uid, {"RINGFENCE_CGROUP": str(memory)}) as process,
    ):
        assert SUMMED in mechanism(process, uid)


@pytest.mark.slow
@OWNERS
def test_a_unit_that_systemd_has_marked_is_used_without_a_name(start: Start, uid: int) -> None:
    with made(("systemd", *NEEDED), uid) as (unit, *others):
        mark(unit, "user.delegate")
        with start(unit, uid, others=others) as process:
            holds(process, uid)
            for place in (unit, *others):
                assert str(process.pid) in (place / "cgroup.procs").read_text().split(), "it was not moved"


def test_a_mark_that_only_root_can_read_is_enough_for_root(start: Start) -> None:
    with made(("systemd", *NEEDED), 0) as (unit, *others):
        mark(unit, "trusted.delegate")
        with start(unit, others=others) as process:
            assert LIMITED in mechanism(process)


@pytest.mark.slow
@OWNERS
def test_a_unit_that_is_not_marked_is_left_alone(start: Start, uid: int) -> None:
    with made(("systemd", *NEEDED), uid) as (unit, *others), start(unit, uid, others=others) as process:
        assert SUMMED in mechanism(process, uid)


def mark(unit: Path, name: str) -> None:
    try:
        os.setxattr(unit, name, b"1")
    except OSError as error:
        lacking(f"marks on a cgroup v1 ({name}): {error.strerror}")
