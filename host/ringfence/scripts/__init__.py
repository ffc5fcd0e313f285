"""The shared runners: every script, on the server and on a satellite, is run by these."""

from ringfence.scripts.request import DEFAULT_TIMEOUT_MS, ScriptKind, ScriptRequest
from ringfence.scripts.result import REFUSED_EXIT_CODE, RunResult, Stopped, Timing
from ringfence.scripts.runner import MAX_VALUE_BYTES, configure, run, run_under
from ringfence.scripts.settings import RunnerSettings

__all__ = [
    "DEFAULT_TIMEOUT_MS",
    "MAX_VALUE_BYTES",
    "REFUSED_EXIT_CODE",
    "RunResult",
    "RunnerSettings",
    "ScriptKind",
    "ScriptRequest",
    "Stopped",
    "Timing",
    "configure",
    "run",
    "run_under",
]
