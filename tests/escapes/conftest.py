"""The supervisors that the scripts of this directory try to get away from.

They end with this directory's tests: the sandboxes that wait in them are not for other tests to come upon.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ringfence.scripts import RunResult

from tests.escapes import reach
from tests.primitives import has, lacking, requires
from tests.waiting import PATIENCE_SECONDS, next_line


class Supervisor:
    """One running supervisor, and whether its sandboxes are prepared before."""

    def __init__(self, process: subprocess.Popen[str], uid: int, *, warm: bool) -> None:
        self._process = process
        self.uid = uid
        self.warm = warm
        self.peak = 0

    @property
    def pid(self) -> int:
        """The supervisor's own process."""
        return self._process.pid

    def run(self, kind: str, script: str, **order: Any) -> RunResult:
        """Run one script, under the shipped default with `policy` over it."""
        return self.run_all([self.order(kind, script, **order)])[0]

    def order(
        self,
        kind: str,
        script: str,
        *,
        policy: dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        context: object = None,
        timeout_ms: int = 60_000,
    ) -> dict[str, Any]:
        """An order for `run_all`."""
        return {
            "kind": kind,
            "script": script,
            "policy": policy or {},
            "env": env or {},
            "context": context,
            "timeoutMs": timeout_ms,
            "warm": self.warm,
        }

    def run_all(self, orders: list[dict[str, Any]]) -> list[RunResult]:
        """Run scripts at once."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(orders) + "\n")
        self._process.stdin.flush()
        patience = PATIENCE_SECONDS + max(order["timeoutMs"] for order in orders) / 1000
        answer = json.loads(next_line(self._process.stdout, "the results of the runs", seconds=patience))
        self.peak = answer["peak"]
        results = [RunResult.model_validate(result) for result in answer["results"]]
        # A run that was refused would prove nothing.
        assert not any(result.refused for result in results), results[0].sandbox.downgrades
        assert all(result.timing.warm is self.warm for result in results)
        return results


@pytest.fixture(scope="package")
def package() -> Iterator[Path]:
    """The package, where everybody can reach it."""
    directory = Path(tempfile.mkdtemp(prefix="ringfence-escapes-"))
    try:
        reach.copy_package(directory)
        yield directory
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="package")
def as_root() -> Iterator[subprocess.Popen[str]]:
    """A supervisor with the rights of these tests; root, where they are root's.

    Its package, with the wrapper in it, is where nobody else can reach it, as in a root's home.
    """
    directory = Path(tempfile.mkdtemp(prefix="ringfence-escapes-"))
    try:
        (directory / "package").mkdir()
        reach.copy_package(directory / "package")
        with started(sys.executable, directory / "package", None) as process:
            yield process
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="package")
def as_other(package: Path) -> Iterator[subprocess.Popen[str]]:
    """A supervisor that is an ordinary user."""
    python = reach.reachable_python(package)
    if python is None:
        lacking(f"no Python {sys.version_info[0]}.{sys.version_info[1]} that uid {reach.OTHER_UID} can run")
    with started(python, package, reach.OTHER_UID) as process:
        yield process


class started:
    """A supervisor process, from its start to its end."""

    def __init__(self, python: str, package: Path, uid: int | None) -> None:
        drop: dict[str, Any] = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
        self._process = subprocess.Popen(
            [python, str(package / "supervisor.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=reach.environment(package),
            cwd="/",
            **drop,
        )

    def __enter__(self) -> subprocess.Popen[str]:
        return self._process

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_SECONDS)
        self._process.stdout.close()


_ROOT = pytest.param("as_root", id="root", marks=requires("user namespaces", "root"))
_OTHER = pytest.param("as_other", id="uid-65532", marks=requires("user namespaces", "root"))
_SELF = pytest.param("as_root", id="this-user", marks=requires("user namespaces"))


@pytest.fixture(params=[_ROOT, _OTHER] if os.geteuid() == 0 else [_SELF])
def who(request: pytest.FixtureRequest) -> subprocess.Popen[str]:
    """Each kind of supervisor in turn."""
    process = request.getfixturevalue(request.param)
    assert isinstance(process, subprocess.Popen)
    return process


@pytest.fixture
def cold_supervisor(who: subprocess.Popen[str]) -> Supervisor:
    """Each kind of supervisor, for what takes long and is the same in a sandbox that was prepared before."""
    return Supervisor(who, reach.OTHER_UID if os.geteuid() == 0 else os.geteuid(), warm=False)


@pytest.fixture(params=["cold", "warm"])
def supervisor(who: subprocess.Popen[str], request: pytest.FixtureRequest) -> Supervisor:
    """Each kind of supervisor, each with sandboxes that are made on the spot and with such that wait."""
    uid = reach.OTHER_UID if os.geteuid() == 0 else os.geteuid()
    return Supervisor(who, uid, warm=request.param == "warm")


needs_node = pytest.mark.skipif(not has("node"), reason="this machine lacks: node")
