"""A run's result without the secrets that are in it. Pure."""

from __future__ import annotations

from ringfence.sandbox.egress.record import EgressRecord
from ringfence.sandbox.egress.relaying.tally import MOST_TEXT
from ringfence.scripts.masking.mask import Mask
from ringfence.scripts.result import RunResult


def masked(result: RunResult, mask: Mask) -> RunResult:
    """The result without these secrets; what ended a run early may have cut one in two."""
    if not mask:
        return result
    cut = result.stopped is not None or result.exit_code < 0
    try:
        value, problem = mask.value(result.value), result.value_error
    except RecursionError:
        value, problem = None, "the value is nested too deeply to look for secrets in it"
    return result.model_copy(
        update={
            "stdout": mask.text(result.stdout, cut=cut),
            "stderr": mask.text(result.stderr, cut=cut),
            "value": value,
            "value_error": problem if problem is None else mask.text(problem),
            "egress": None if result.egress is None else _record(result.egress, mask),
        }
    )


def _record(record: EgressRecord, mask: Mask) -> EgressRecord:
    """A script may have looked up, or greeted, a name that is a secret. What is no text of its own stays."""
    lowered = mask.lowered()

    def blotted(text: str) -> str:
        cut = len(text) == MOST_TEXT
        # A secret that is shorter than what stands in its place makes it longer.
        return lowered.text(mask.text(text, cut=cut), cut=cut)[:MOST_TEXT]

    told = record.model_dump(mode="json")
    for each in (*told["names"], *told["used"], *told["refused"]):
        each.update({key: blotted(each[key]) for key in ("name", "address", "why") if key in each})
        if isinstance(each.get("answered"), list):
            each["answered"] = list(map(blotted, each["answered"]))
    return EgressRecord.model_validate(told)
