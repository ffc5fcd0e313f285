"""What is to be covered of the host, and is gone before that: another supervisor's place of a run that has ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ringfence.sandbox import DEFAULT_POLICY, PolicySnapshot, overlay
from ringfence.sandbox.plan.decide import plan
from ringfence.scripts import RunnerSettings, ScriptKind, ScriptRequest, Stopped
from ringfence.scripts.running import hosts_view
from ringfence.scripts.running.runner import MOST_LOOKS, Runner

from tests.primitives import requires

pytestmark = requires("user namespaces")


class Passing:
    """Directories that are there when the host is looked at, and go when a run is planned, so many times."""

    def __init__(self, directory: Path, times: int) -> None:
        self.looks = 0
        self._directory = directory
        self._times = times

    def paths(self) -> tuple[str, ...]:
        """What is to be covered."""
        self.looks += 1
        if self.looks > self._times:
            return ()
        place = self._directory / f"place-{self.looks}"
        place.mkdir()
        return (str(place),)

    def before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Have them go when that is called."""

        def called(*given: Any) -> Any:
            for place in self._directory.glob("place-*"):
                place.rmdir()
            return call(*given)

        return called


@pytest.mark.parametrize("times", [1, MOST_LOOKS - 1, MOST_LOOKS])
async def test_a_run_is_planned_anew_when_what_it_was_not_to_see_has_gone(
    times: int, open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passing = Passing(open_directory, times)
    monkeypatch.setattr(hosts_view, "KEPT", passing)
    monkeypatch.setattr("ringfence.scripts.running.runner.plan", passing.before(plan))
    policy = overlay(DEFAULT_POLICY, {"filesystem": {"hostPaths": [str(open_directory)]}})
    request = ScriptRequest(ScriptKind.SHELL, f"ls {open_directory}; echo ran")
    once = Runner(RunnerSettings(max_concurrent_runs=1, warm_sandboxes=0))
    result = await once.run(PolicySnapshot(policy, revision=1), request)
    if times < MOST_LOOKS:
        assert (result.stdout, passing.looks) == ("ran\n", times + 1), result
    else:
        assert (result.stopped, passing.looks) == (Stopped.REFUSED, MOST_LOOKS), result
        (reason,) = (each.reason for each in result.sandbox.downgrades)
        assert "the sandbox could not be made" in reason
