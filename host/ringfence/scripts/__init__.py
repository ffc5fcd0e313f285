"""The shared runners: every script, on the server and on a satellite, is run by these."""

from ringfence.scripts.masking.mask import MIN_SECRET, Mask
from ringfence.scripts.masking.results import masked
from ringfence.scripts.packages.provider import (
    DEFAULT_SET,
    NotReady,
    PackageProvider,
    PackageTree,
    clear_package_provider,
    set_package_provider,
)
from ringfence.scripts.reading import Format, Health, Verdict, read, unknown
from ringfence.scripts.request import DEFAULT_TIMEOUT_MS, ScriptKind, ScriptRequest
from ringfence.scripts.result import REFUSED_EXIT_CODE, PackagesUsed, RunResult, Stopped, Timing
from ringfence.scripts.running.given_value import MAX_VALUE_BYTES
from ringfence.scripts.running.runner import configure, run, run_under
from ringfence.scripts.running.settings import RunnerSettings, RunnerSettingsError
from ringfence.scripts.schedule.cron import Cron
from ringfence.scripts.schedule.scheduler import Scheduler
from ringfence.scripts.tasks.carrying_out import Carried, NoSecretsError, carry_out, judged
from ringfence.scripts.tasks.kept_result import kept
from ringfence.scripts.tasks.state_store import StateStore, StateUnavailableError, run_keeping
from ringfence.scripts.tasks.task import Task

__all__ = [
    "DEFAULT_SET",
    "DEFAULT_TIMEOUT_MS",
    "MAX_VALUE_BYTES",
    "MIN_SECRET",
    "REFUSED_EXIT_CODE",
    "Carried",
    "Cron",
    "Format",
    "Health",
    "Mask",
    "NoSecretsError",
    "NotReady",
    "PackageProvider",
    "PackageTree",
    "PackagesUsed",
    "RunResult",
    "RunnerSettings",
    "RunnerSettingsError",
    "Scheduler",
    "ScriptKind",
    "ScriptRequest",
    "StateStore",
    "StateUnavailableError",
    "Stopped",
    "Task",
    "Timing",
    "Verdict",
    "carry_out",
    "clear_package_provider",
    "configure",
    "judged",
    "kept",
    "masked",
    "read",
    "run",
    "run_keeping",
    "run_under",
    "set_package_provider",
    "unknown",
]
