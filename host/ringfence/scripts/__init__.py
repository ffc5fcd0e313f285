"""The shared runners: every script, on the server and on a satellite, is run by these."""

from ringfence.scripts.request import DEFAULT_TIMEOUT_MS, ScriptKind, ScriptRequest
from ringfence.scripts.result import REFUSED_EXIT_CODE, RunResult, Stopped, Timing

__all__ = [
    "DEFAULT_TIMEOUT_MS",
    "REFUSED_EXIT_CODE",
    "RunResult",
    "ScriptKind",
    "ScriptRequest",
    "Stopped",
    "Timing",
]
