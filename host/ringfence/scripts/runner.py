"""Run one script: ask for the policy, plan, launch, and say what happened."""

from __future__ import annotations

import json
import os
import time

from ringfence.sandbox import Downgrade, Enforced, Note, PolicySnapshot, SandboxReport, current_policy
from ringfence.sandbox.capabilities import Capabilities, probe
from ringfence.sandbox.environment import ScriptEnvironment, compose
from ringfence.sandbox.launch import Command, LaunchFailed, prepare
from ringfence.sandbox.plan import Inputs, Interpreter, Plan, Refusal, plan
from ringfence.sandbox.report import Layer
from ringfence.sandbox.supervise import Bounds, Outcome, Stop
from ringfence.sandbox.supervise import run as supervise
from ringfence.scripts import python, shell
from ringfence.scripts.request import ScriptKind, ScriptRequest
from ringfence.scripts.result import REFUSED_EXIT_CODE, RunResult, Stopped, Timing

MAX_VALUE_BYTES = 1024 * 1024
"""The largest value, as JSON, that a script can give back."""

_INTERPRETERS = {
    ScriptKind.SHELL: Interpreter.SHELL,
    ScriptKind.PYTHON: Interpreter.PYTHON,
    ScriptKind.ESM: Interpreter.NODE,
}


async def run(request: ScriptRequest) -> RunResult:
    """Run a script under the policy that holds now.

    There is no way to bring another: see `set_policy_provider`.
    """
    return await run_under(await current_policy(), request)


async def run_under(
    snapshot: PolicySnapshot, request: ScriptRequest, *, capabilities: Capabilities | None = None
) -> RunResult:
    """Run a script under a given policy; for tools like `ringfence run --policy`, not for callers within a
    host."""
    asked = time.monotonic()
    environment = compose(os.environ, request.env or {})
    planned = plan(capabilities or probe(), snapshot, Inputs(_INTERPRETERS[request.kind]))
    if isinstance(planned, Refusal):
        return _refused(planned.report, asked)
    bounds = Bounds(request.timeout_ms / 1000, planned.resources.max_output_bytes, MAX_VALUE_BYTES)
    try:
        prepared = prepare(planned, _command(request.kind, planned, environment))
        outcome = await supervise(prepared, _payload(request, environment), bounds)
    except LaunchFailed as error:
        return _refused(_nothing_held(planned.report, str(error)), asked)
    return _result(outcome, _with_dropped(planned.report, environment), asked)


def _command(kind: ScriptKind, planned: Plan, environment: ScriptEnvironment) -> Command:
    if kind is ScriptKind.SHELL:
        return shell.command(planned, environment.base)
    return python.command(planned, environment.base)


def _payload(request: ScriptRequest, environment: ScriptEnvironment) -> bytes:
    if request.kind is ScriptKind.SHELL:
        return shell.payload(request.source, environment.extra)
    return python.payload(request.source, request.context, environment.extra)


def _refused(report: SandboxReport, asked: float) -> RunResult:
    return RunResult(
        exit_code=REFUSED_EXIT_CODE,
        stopped=Stopped.REFUSED,
        duration_ms=_since(asked),
        sandbox=report,
    )


def _nothing_held(report: SandboxReport, reason: str) -> SandboxReport:
    downgrade = Downgrade(layer="sandbox", reason=reason)
    return report.model_copy(
        update={
            "enforced": Enforced(),
            "mechanisms": {},
            "downgrades": (*report.downgrades, downgrade),
        }
    )


def _with_dropped(report: SandboxReport, environment: ScriptEnvironment) -> SandboxReport:
    if not environment.dropped:
        return report
    note = Note(
        layer=Layer.ENVIRONMENT, note=f"variables that were not passed: {', '.join(environment.dropped)}"
    )
    return report.model_copy(update={"notes": (*report.notes, note)})


_STOPPED = {
    Stop.TIMEOUT: Stopped.TIMEOUT,
    Stop.OUTPUT: Stopped.OUTPUT,
    Stop.MEMORY: Stopped.MEMORY,
    Stop.FILES: Stopped.FILES,
}


def _result(outcome: Outcome, report: SandboxReport, asked: float) -> RunResult:
    value, problem = _value(outcome)
    return RunResult(
        exit_code=outcome.exit_code,
        stdout=outcome.stdout,
        stderr=outcome.stderr,
        timed_out=outcome.stopped is Stop.TIMEOUT,
        output_truncated=outcome.stopped is Stop.OUTPUT,
        duration_ms=_since(asked),
        value=value,
        value_error=problem,
        stopped=_STOPPED[outcome.stopped] if outcome.stopped else None,
        timing=Timing(prepare_ms=_ms(outcome.prepare_s), run_ms=_ms(outcome.run_s)),
        sandbox=report,
    )


def _value(outcome: Outcome) -> tuple[object, str | None]:
    """What the script gave back. It comes from inside, so it is parsed as a stranger's JSON."""
    if outcome.value_too_large:
        return None, f"the value is larger than {MAX_VALUE_BYTES} bytes"
    if outcome.value is None:
        return None, None
    try:
        return json.loads(outcome.value), None
    except (ValueError, RecursionError) as error:
        return None, f"the value is not JSON: {error}"


def _since(moment: float) -> float:
    return _ms(time.monotonic() - moment)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
