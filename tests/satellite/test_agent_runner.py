"""What an agent answers for a run that has no result: a frame that any host can take, whatever went wrong."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from ringfence.scripts import NoSecretsError, RunResult, ScriptKind, ScriptRequest
from ringfence_satellite.agent.running.runner import Runner
from ringfence_satellite.protocol import RunFinished, RunScript, parse_from_satellite

BAD = "no file a\0b, nor \udcff" + "x" * 3000


async def fails(_: ScriptRequest) -> RunResult:
    raise OSError(BAD)


async def are_refused(_: str) -> Mapping[str, str]:
    raise NoSecretsError(BAD)


@pytest.mark.parametrize("config_id", [None, "c"])
async def test_an_error_that_cannot_be_stored_is_told_as_far_as_it_can_be(config_id: str | None) -> None:
    runner = Runner(fails, are_refused)
    asked = RunScript(run_id="r", kind=ScriptKind.SHELL, script="true", config_id=config_id)
    frame = parse_from_satellite(await runner.answer(asked))
    assert isinstance(frame, RunFinished)
    assert frame.error is not None
    assert "no file a\ufffdb, nor \ufffdxxx" in frame.error
