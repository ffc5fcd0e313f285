"""The shared runners: every script, on the server and on a satellite, is run by these."""

from ringfence.scripts.request import DEFAULT_TIMEOUT_MS, ScriptKind, ScriptRequest
from ringfence.scripts.result import REFUSED_EXIT_CODE, RunResult, Stopped, Timing
from ringfence.scripts.runner import MAX_VALUE_BYTES, run, run_under

__all__ = [
    "DEFAULT_TIMEOUT_MS",
    "MAX_VALUE_BYTES",
    "REFUSED_EXIT_CODE",
    "RunResult",
    "ScriptKind",
    "ScriptRequest",
    "Stopped",
    "Timing",
    "run",
    "run_under",
]
