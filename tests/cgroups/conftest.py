"""Cgroups that a real kernel limits: these tests run where there are such, and elsewhere in a virtual machine.

tests/test_virtual_machine.py boots that, and says which of them are run there.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.cgroups import units
from tests.escapes import reach
from tests.escapes.conftest import Supervisor
from tests.primitives import has, lacking

collect_ignore_glob = [] if has("limiting cgroups") else ["test_*.py"]

Start = Callable[..., contextlib.AbstractContextManager[subprocess.Popen[str]]]


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    """Start a supervisor in a cgroup (or in several of v1), as a user, with more in its environment."""
    package = Path(tempfile.mkdtemp(prefix="ringfence-cgroups-"))
    reach.copy_package(package)
    pythons = {0: sys.executable}

    @contextlib.contextmanager
    def started(
        group: Path, uid: int = 0, more: Mapping[str, str] | None = None, others: Sequence[Path] = ()
    ) -> Iterator[subprocess.Popen[str]]:
        if uid not in pythons:
            pythons[uid] = reach.reachable_python(package) or lacking(f"no Python that uid {uid} can run")
        environment = {**reach.environment(package), **(more or {})}
        process = units.start(group, uid, [pythons[uid], str(package / "supervisor.py")], environment, others)
        with process:
            yield process
            assert process.stdin is not None
            process.stdin.close()

    try:
        yield started
    finally:
        shutil.rmtree(package)


@pytest.fixture(scope="session", params=[0, reach.OTHER_UID], ids=["root", "uid-65532"])
def supervised(request: pytest.FixtureRequest, start: Start) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """The cgroup of a unit with `Delegate=yes`, and the supervisor that is its only process."""
    with units.unit(request.param) as unit, start(unit, request.param) as process:
        yield unit, process


@pytest.fixture
def unit(supervised: tuple[Path, subprocess.Popen[str]]) -> Path:
    return supervised[0]


@pytest.fixture
def supervisor(supervised: tuple[Path, subprocess.Popen[str]]) -> Supervisor:
    return Supervisor(supervised[1], reach.OTHER_UID, warm=False)


@pytest.fixture
def warm_supervisor(supervised: tuple[Path, subprocess.Popen[str]]) -> Supervisor:
    return Supervisor(supervised[1], reach.OTHER_UID, warm=True)


@pytest.fixture
def leaves_nothing(unit: Path) -> Iterator[None]:
    """Fail a test after whose runs there is a cgroup that was not there before (sandboxes may wait in theirs)."""
    before = set(units.runs_in(unit))
    yield
    assert set(units.runs_in(unit)) <= before
