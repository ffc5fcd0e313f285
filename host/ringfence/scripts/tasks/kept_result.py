"""What is kept of a run beside its verdict."""

from __future__ import annotations

from typing import Any

from ringfence.sandbox.egress.record import EgressRecord
from ringfence.scripts.result import RunResult

MAX_OUTPUT = 4096
"""How many characters of the end of a run's output are kept."""
MAX_DESTINATIONS = 50
"""How many names, used and refused destinations are kept of what a run tried on the network; the rest is counted."""


def kept(result: RunResult) -> dict[str, Any]:
    """How a run ended, the ends of its output, the sandbox's report, and what it tried on the network, as JSON."""
    wire = result.model_dump(
        mode="json", by_alias=True, include={"exit_code", "stopped", "duration_ms", "timing", "sandbox"}
    )
    output = {"stdout": result.stdout[-MAX_OUTPUT:], "stderr": result.stderr[-MAX_OUTPUT:]}
    return {**wire, **output, **kept_record(result.egress)}


def kept_record(record: EgressRecord | None) -> dict[str, Any]:
    """What is kept of what a run tried on the network, as a field of JSON; none for a run without a record."""
    if record is None:
        return {}
    return {"egress": record.first(MAX_DESTINATIONS).model_dump(mode="json", by_alias=True)}
