"""The supervisors that the scripts of this directory try to get away from.

They end with this directory's tests: the sandboxes that wait in them are not for other tests to come upon.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.wrappers.choice import WrapperKind, chosen
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
        self.states: list[bytes] = []

    @property
    def pid(self) -> int:
        """The supervisor's own process."""
        return self._process.pid

    @property
    def command(self) -> tuple[str, Path]:
        """Its Python, and the directory of the package that it imports."""
        python, program = self._process.args  # type: ignore[misc]
        return str(python), Path(str(program)).parent

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
        without: Sequence[str] = (),
        state: bytes | None = None,
        **given: Any,
    ) -> dict[str, Any]:
        """An order for `run_all`. `given` are further fields of the request.

        `without` are primitives that the supervisor is to take for missing; see `supervisor.host`.
        """
        return {
            "kind": kind,
            "script": script,
            "policy": policy or {},
            "env": env or {},
            "context": context,
            "timeoutMs": timeout_ms,
            "state": None if state is None else state.hex(),
            "given": given,
            "without": list(without),
            "warm": self.warm,
        }

    def run_all(self, orders: list[dict[str, Any]]) -> list[RunResult]:
        """Run scripts at once."""
        self.begin(orders)
        return self.end(PATIENCE_SECONDS + max(order["timeoutMs"] for order in orders) / 1000)

    def begin(self, orders: list[dict[str, Any]]) -> None:
        """Begin to run scripts at once; `end` has to follow."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(orders) + "\n")
        self._process.stdin.flush()

    def end(self, patience: float) -> list[RunResult]:
        """The results of what was begun, when it is over."""
        answer = json.loads(next_line(self._process.stdout, "the results of the runs", seconds=patience))
        self.peak = answer["peak"]
        self.states = list(map(bytes.fromhex, answer["states"]))
        results = [RunResult.model_validate(result) for result in answer["results"]]
        # A run that was refused would prove nothing.
        assert not any(result.refused for result in results), results[0].sandbox.downgrades
        assert all(result.timing.warm is self.warm for result in results)
        return results


class Supervisors:
    """The supervisors of this directory, each started when a test first asks for it."""

    def __init__(self, held: contextlib.ExitStack) -> None:
        self._held = held
        self._started: dict[tuple[str, WrapperKind], subprocess.Popen[str]] = {}
        self._package: Path | None = None

    def get(self, who: str, wrapper: WrapperKind) -> subprocess.Popen[str]:
        """One with the rights of these tests (`self`), or one that is an ordinary user (`other`)."""
        if (who, wrapper) not in self._started:
            start = {"self": self._as_self, "other": self._as_other}[who]
            self._started[who, wrapper] = self._held.enter_context(start(wrapper))
        return self._started[who, wrapper]

    def _as_self(self, wrapper: WrapperKind) -> started:
        # With the wrapper in it, it is where nobody else can reach it, as in a root's home.
        package = self._directory() / "package"
        package.mkdir()
        reach.copy_package(package)
        return started(sys.executable, package, wrapper, None)

    def _as_other(self, wrapper: WrapperKind) -> started:
        if self._package is None:
            self._package = self._directory()
            reach.copy_package(self._package)
        python = reach.reachable_python(self._package)
        if python is None:
            lacking(
                f"no Python {sys.version_info[0]}.{sys.version_info[1]} that uid {reach.OTHER_UID} can run"
            )
        return started(python, self._package, wrapper, reach.OTHER_UID)

    def _directory(self) -> Path:
        directory = Path(tempfile.mkdtemp(prefix="ringfence-escapes-"))
        self._held.callback(shutil.rmtree, directory)
        return directory


class started:
    """A supervisor process, from its start to its end."""

    def __init__(self, python: str, package: Path, wrapper: WrapperKind, uid: int | None) -> None:
        drop: dict[str, Any] = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
        self._process = subprocess.Popen(
            [python, str(package / "supervisor.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=reach.environment(package, wrapper),
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


@pytest.fixture(scope="package")
def supervisors() -> Iterator[Supervisors]:
    """All that tests of this directory ask for, until they are done."""
    with contextlib.ExitStack() as held:
        yield Supervisors(held)


def _params(wrapper: WrapperKind) -> list[Any]:
    """Each kind of supervisor that these tests can have, with that wrapper."""
    needs = ["user namespaces", *(["nsjail"] if wrapper is WrapperKind.NSJAIL else [])]
    # The same once more, for another wrapper than the one that is chosen: a family of its own has it chosen.
    other = () if wrapper is chosen() else (pytest.mark.other_wrapper,)
    # Every attempt is by one kind of supervisor, with a sandbox that is made on the spot or one that waits, in turn.
    rows = (pytest.mark.in_turn("who", "supervisor"), *other)
    by = "" if wrapper is WrapperKind.BUBBLEWRAP else f"-{wrapper}"
    if os.geteuid() != 0:
        return [pytest.param(("self", wrapper), id=f"this-user{by}", marks=(requires(*needs), *rows))]
    marks = (requires(*needs, "root"), *rows)
    return [
        pytest.param(("self", wrapper), id=f"root{by}", marks=marks),
        pytest.param(("other", wrapper), id=f"uid-{reach.OTHER_UID}{by}", marks=marks),
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test is for each kind of supervisor, with the wrapper that the environment names.

    Those that are marked `every_wrapper` are also for the others.
    """
    if "who" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker("every_wrapper") is not None
        wrappers = [chosen(), *(each for each in WrapperKind if marked and each is not chosen())]
        params = [param for wrapper in wrappers for param in _params(wrapper)]
        metafunc.parametrize("who", params, indirect=True)


@pytest.fixture
def who(request: pytest.FixtureRequest, supervisors: Supervisors) -> subprocess.Popen[str]:
    """Each kind of supervisor in turn."""
    return supervisors.get(*request.param)


def _inside() -> int:
    """The uid that scripts see themselves have."""
    has_their_own = os.geteuid() == 0 or probe(links=False).uid_range is not None
    return reach.OTHER_UID if has_their_own else os.geteuid()


@pytest.fixture
def cold_supervisor(who: subprocess.Popen[str]) -> Supervisor:
    """Each kind of supervisor, for what takes long and is the same in a sandbox that was prepared before."""
    return Supervisor(who, _inside(), warm=False)


@pytest.fixture(params=["cold", "warm"])
def supervisor(who: subprocess.Popen[str], request: pytest.FixtureRequest) -> Supervisor:
    """Each kind of supervisor, each with sandboxes that are made on the spot and with such that wait."""
    uid = _inside()
    return Supervisor(who, uid, warm=request.param == "warm")


needs_node = pytest.mark.skipif(not has("node"), reason="this machine lacks: node")
