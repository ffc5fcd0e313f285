"""What a step leaves of a script's run for later steps, and for whoever looks: bounded, and telling what is cut.

Pure.
"""

from __future__ import annotations

import json
from typing import Any

from ringfence.bounded import cleaned, cleaned_json
from ringfence.scripts import Mask, RunResult, masked
from ringfence.scripts.tasks.kept_result import kept_record
from ringfence_satellite.service import RunEnd, RunOutcome

from ringfence_automations.service import JsonObject, StepResult

MAX_OUTPUT = 64 * 1024
"""How much of each of a script's outputs is kept, in bytes of UTF-8, where it runs in one place."""
MIN_OUTPUT = 512
"""The same at least, where it runs in many."""
MAX_VALUE = 64 * 1024
"""The largest value that is kept, in bytes of JSON."""
MAX_MESSAGE = 500


def of_run(result: RunResult, *, most_output: int = MAX_OUTPUT) -> StepResult:
    """The end of a step whose script has run, or was refused by the sandbox, which is no success."""
    refused = _refusal(result) if result.refused else None
    value, value_error = _value(result.value), result.value_error
    if value is None and result.value is not None:
        value_error = f"the value is larger than {MAX_VALUE} bytes, and is not kept"
    ok = result.stopped is None and result.exit_code == 0
    artifact: JsonObject = {
        "status": "refused" if result.refused else (result.stopped or ("succeeded" if ok else "failed")),
        "exitCode": None if result.refused else result.exit_code,
        **_output("stdout", result.stdout, most_output, result.output_truncated),
        **_output("stderr", result.stderr, most_output, result.output_truncated),
        "value": value,
        "valueError": value_error,
        "durationMs": result.duration_ms,
        "refused": refused,
        "kind": None if result.kind is None else result.kind.value,
        "enforced": result.sandbox.enforced.model_dump(mode="json", by_alias=True),
        "policyRevision": result.sandbox.origin.revision,
        **kept_record(result.egress),
    }
    return StepResult(ok, cleaned_json(artifact), cleaned(_message(result), MAX_MESSAGE))


def without_run(status: str, reason: str) -> StepResult:
    """The end of a step whose script has not run, or of which nobody knows whether it has."""
    artifact = {"status": status, "exitCode": None, "stdout": "", "stderr": "", "value": None}
    return StepResult(False, {**artifact, "refused": reason}, cleaned(reason, MAX_MESSAGE))


def of_end(end: RunEnd, mask: Mask, *, most_output: int = MAX_OUTPUT) -> StepResult:
    """The end of a step whose script was asked for on a satellite, without the run's secrets."""
    if end.result is None:
        statuses = {
            RunOutcome.CANCELLED: "cancelled",
            RunOutcome.EXPIRED: "unreachable",
            RunOutcome.LOST: "lost",
        }
        reason = end.reason or "the run has no result"
        return without_run(statuses.get(end.outcome, "refused"), mask.text(reason))
    try:
        result = RunResult.model_validate(end.result)
        return of_run(masked(result, mask), most_output=most_output)
    except ValueError:
        return without_run("unreadable", "the satellite's result cannot be read by this release of the host")


def _message(result: RunResult) -> str:
    if result.refused:
        return f"refused by the sandbox: {_refusal(result)}"
    if result.stopped is not None:
        return f"stopped: {result.stopped}"
    if result.exit_code:
        lines = (result.stderr.strip() or result.stdout.strip()).splitlines()
        said = f": {lines[-1]}" if lines else ""
        ended = f"signal {-result.exit_code}" if result.exit_code < 0 else f"exit status {result.exit_code}"
        return ended + said
    return "exit status 0"


def _refusal(result: RunResult) -> str:
    reasons = "; ".join(f"{one.layer}: {one.reason}" for one in result.sandbox.downgrades)
    return reasons or "no reason was given"


def _output(name: str, text: str, most: int, was_cut: bool) -> JsonObject:
    """An output, or its beginning and its end. It is cut after its secrets were masked."""
    data = text.encode(errors="replace")
    if len(data) <= most:
        return {name: text, f"{name}Truncated": was_cut}
    half = most // 2
    gap = f"\n[… {len(data) - 2 * half} bytes are left out …]\n"
    begin, end = data[:half].decode(errors="ignore"), data[-half:].decode(errors="ignore")
    return {name: begin + gap + end, f"{name}Truncated": True}


def _value(value: Any) -> Any:
    size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))
    return value if size <= MAX_VALUE else None
