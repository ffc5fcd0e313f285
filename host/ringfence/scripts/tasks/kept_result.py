"""What is kept of a run beside its verdict."""

from __future__ import annotations

from typing import Any

from ringfence.scripts.result import RunResult

MAX_OUTPUT = 4096
"""How many characters of the end of a run's output are kept."""


def kept(result: RunResult) -> dict[str, Any]:
    """How a run ended, the ends of its output, and the sandbox's report, as JSON."""
    wire = result.model_dump(
        mode="json", by_alias=True, include={"exit_code", "stopped", "duration_ms", "timing", "sandbox"}
    )
    return {**wire, "stdout": result.stdout[-MAX_OUTPUT:], "stderr": result.stderr[-MAX_OUTPUT:]}
