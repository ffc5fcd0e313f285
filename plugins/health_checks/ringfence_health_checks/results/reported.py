"""What a satellite reports of a check, as a result: nothing in it is trusted to be what it should be.

Threat: an agent of an older release reads what a script says by laxer rules, and so reports a system as healthy at
which a verdict of another state was printed. Mechanism: an agent of this release says by which format it has read; what
one that does not say so calls healthy is read anew from what it has sent along, and is unknown where that is not
enough. The same holds for a program that tells of the host, where such an agent notes that it has seen none of that:
it is unknown. What is called healthy beside an assertion that does not hold, or was read by another format or with
other assertions than the check has, is not; unless it was begun before the check was changed, and so tells of the check
as it was, like the results before it. Not covered: a satellite that lies about its own checks.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from pydantic import ValidationError
from ringfence.bounded import moment
from ringfence.sandbox import DEFAULT_POLICY, PolicyOrigin, PolicySource, SandboxReport
from ringfence.sandbox.egress.record import EgressRecord
from ringfence.scripts import Format, Health, RunResult, Verdict, read, unknown
from ringfence.scripts.reading import Outcome, read_metrics, shortened, worst
from ringfence.scripts.reading.assertions import MAX_ASSERTIONS
from ringfence.scripts.reading.verdict import MAX_NOTES
from ringfence.scripts.tasks.kept_result import MAX_OUTPUT, kept_record
from ringfence_satellite.service import CheckResult, StrategyError

from ringfence_health_checks.definitions.definition import Definition
from ringfence_health_checks.results.results import Result

NOTHING_TOLD = SandboxReport(requested=DEFAULT_POLICY, origin=PolicyOrigin(source=PolicySource.DEFAULT))
"""The report of a run of which no report is needed."""
MAX_REPORT_BYTES = 64 * 1024
OLD_NOTE = "the script looks at the host, of which the sandbox shows nothing: "
"""How an agent of an earlier release notes that a program has not seen the host."""
IN_FLIGHT = dt.timedelta(seconds=10)
"""How much later than a change a run may begin that does not know of it yet, by the satellite's clock."""
_TAIL = 64
"""How much may come behind the end of a document, of what steers a terminal."""


def reported(
    check_id: UUID,
    definition: Definition,
    satellite: UUID,
    frame: CheckResult | StrategyError,
    *,
    changed_at: dt.datetime,
) -> Result:
    """The result that a satellite tells of; the check was changed last at `changed_at`.

    The system is the one that the check is about: a satellite cannot report on another.
    """
    if isinstance(frame, StrategyError):
        return Result(check_id, str(satellite), definition.system, unknown(frame.message))
    said, began = frame.result, _moment(frame.executed_at)
    more = {} if frame.result_id is None else {"id": frame.result_id}
    return Result(
        check_id,
        str(satellite),
        definition.system,
        _verdict(definition, frame.status, said, was_before=began < changed_at + IN_FLIGHT),
        frame.latency_ms,
        _detail(said),
        began,
        **more,
    )


def _verdict(definition: Definition, status: str, said: Mapping[str, Any], *, was_before: bool) -> Verdict:
    message, metrics = said.get("message"), read_metrics(said.get("metrics"))
    told = Verdict(
        Health(status) if status in set(Health) else Health.UNKNOWN,
        shortened(message if isinstance(message, str) else ""),
        metrics.by_name,
        _outcomes(said.get("assertions")),
        (*_notes(said.get("notes")), *metrics.notes),
    )
    if (reason := _untold(definition, told)) is not None:
        return unknown(f"it did not see the host, of which it tells: {reason}")
    if told.status is not Health.HEALTHY:
        return told
    if (doubt := _doubt(definition, said, told, was_before=was_before)) is not None:
        return doubt
    if "format" in said:
        return told
    anew = _read_anew(definition, said)
    return told if anew.status is Health.HEALTHY else anew


def _untold(definition: Definition, told: Verdict) -> str | None:
    """Why a command cannot have told of the host, by the note of an agent that does not know what follows from it."""
    if definition.command is None or told.status is Health.UNKNOWN:
        return None
    found = (note.partition(OLD_NOTE) for note in told.notes)
    return next((reason for before, is_it, reason in found if is_it and not before), None)


def _doubt(
    definition: Definition, said: Mapping[str, Any], told: Verdict, *, was_before: bool
) -> Verdict | None:
    """What is to be made of a healthy verdict that does not follow from what is told beside it; None if it does.

    It `was_before` if it was begun before the check became what it is, or so soon after that it may not have arrived.
    """
    if any(not one.held for one in told.assertions):
        worse = worst(one.state for one in told.assertions)
        return replace(told, status=worse, notes=(*told.notes, "the satellite calls this healthy"))
    if "format" not in said:
        return None
    if said["format"] != definition.read_as:
        was = f"the format {shortened(str(said['format']))[:100]!r}"
    elif len(told.assertions) != len(definition.assertions):
        was = f"{len(told.assertions)} assertions"
    else:
        return None
    if was_before and said["format"] in set(Format):
        return replace(told, notes=(*told.notes, "of the check as it was before it was changed"))
    wanted = f"the format {definition.read_as.value!r} and {len(definition.assertions)} assertions"
    return unknown(f"its satellite has read it with {was}, and the check has {wanted}")


def _read_anew(definition: Definition, said: Mapping[str, Any]) -> Verdict:
    """What is to be made of what an agent of an older release calls healthy."""
    format, stdout = definition.read_as, _text(said, "stdout")
    if format is not Format.EXIT or definition.assertions:
        return unknown(f"the agent of this satellite is too old to read the format {format}: upgrade it")
    if len(stdout) >= MAX_OUTPUT and "}" in stdout[-_TAIL:]:
        return unknown("the agent of this satellite is too old to read what the script printed: upgrade it")
    # What was sent along says nothing of the sandbox, which is of no concern for how output is read.
    sent: dict[str, Any] = {
        "sandbox": NOTHING_TOLD,
        "exit_code": 0,
        "stdout": stdout,
        "stderr": _text(said, "stderr"),
    }
    return read(RunResult.model_construct(**sent), format)


def _detail(said: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept beside the verdict."""
    numbers = {
        name: said[name] for name in ("exitCode", "durationMs") if isinstance(said.get(name), int | float)
    }
    words = {name: said[name][:100] for name in ("stopped", "format") if isinstance(said.get(name), str)}
    output = {name: _text(said, name)[-MAX_OUTPUT:] for name in ("stdout", "stderr") if name in said}
    return {**numbers, **words, **output, **_report(said.get("sandbox")), **_tried(said.get("egress"))}


def _text(said: Mapping[str, Any], name: str) -> str:
    text = said.get(name)
    return text if isinstance(text, str) else ""


def _outcomes(told: object) -> tuple[Outcome, ...]:
    """What a satellite says that became of a check's assertions."""
    return tuple(map(Outcome.told, told[:MAX_ASSERTIONS])) if isinstance(told, list) else ()


def _notes(told: object) -> tuple[str, ...]:
    return tuple(shortened(str(one)) for one in told[:MAX_NOTES]) if isinstance(told, list) else ()


def _report(sandbox: object) -> dict[str, Any]:
    if not isinstance(sandbox, dict):
        return {}
    if len(json.dumps(sandbox)) > MAX_REPORT_BYTES:
        return {"sandbox": {"omitted": "the report is too large to be kept"}}
    return {"sandbox": sandbox}


def _tried(told: object) -> dict[str, Any]:
    """What a run tried on the network; what cannot be read here is no loss to the verdict."""
    if told is None:
        return {}
    try:
        return kept_record(EgressRecord.model_validate(told))
    except ValidationError:
        return {}


def _moment(text: str) -> dt.datetime:
    """The satellite's time, or ours where that cannot be right.

    Ours if it cannot be read, cannot be true (a machine without a clock starts in 1970), or lies ahead: it must not
    stay the newest for ever.
    """
    now = dt.datetime.now(dt.UTC)
    try:
        told = dt.datetime.fromisoformat(text)
        return min(moment(told if told.tzinfo else told.replace(tzinfo=dt.UTC)), now)
    except (ValueError, OverflowError):
        return now
