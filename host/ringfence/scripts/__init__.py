"""The shared runners: every script, on the server and on a satellite, is run by these."""

from ringfence.scripts.masking import MIN_SECRET, Mask
from ringfence.scripts.request import DEFAULT_TIMEOUT_MS, ScriptKind, ScriptRequest
from ringfence.scripts.result import REFUSED_EXIT_CODE, RunResult, Stopped, Timing
from ringfence.scripts.runner import MAX_VALUE_BYTES, configure, run, run_under
from ringfence.scripts.scheduler import Scheduler
from ringfence.scripts.settings import RunnerSettings, RunnerSettingsError
from ringfence.scripts.verdict import Health, Verdict, judge, kept

__all__ = [
    "DEFAULT_TIMEOUT_MS",
    "MAX_VALUE_BYTES",
    "MIN_SECRET",
    "REFUSED_EXIT_CODE",
    "Health",
    "Mask",
    "RunResult",
    "RunnerSettings",
    "RunnerSettingsError",
    "Scheduler",
    "ScriptKind",
    "ScriptRequest",
    "Stopped",
    "Timing",
    "Verdict",
    "configure",
    "judge",
    "kept",
    "run",
    "run_under",
]
