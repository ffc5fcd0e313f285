"""Secrets are blotted out of results by those who know them, before anything is stored.

Threat: a script tells a secret that its satellite was not given with this run, and so did not mask: one that came from
another run of the same work. Mechanism: each plugin that has asked for runs is asked for what it wants blotted out; if
it cannot say, the output is not stored. Not covered: what was told while the script ran (`RunScript.quiet`).
"""

from __future__ import annotations

from uuid import UUID

import structlog
from ringfence import PluginContext
from ringfence.redaction import describe
from ringfence.scripts import Mask

from ringfence_satellite.protocol import JsonObject
from ringfence_satellite.service import RunSecretSource

_NOT_STORED = "what it gave back is not stored: it may hold a secret, and nobody could say so"
_log = structlog.get_logger("ringfence.satellite.runs")


class Blotting:
    """Blots secrets out of what satellites answer."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def blotted(
        self, run: UUID, result: JsonObject | None, error: str | None
    ) -> tuple[JsonObject | None, str | None]:
        """The result, or the reason why there is none, without the secrets that are known of the run."""
        for source in self._context.services.extensions(RunSecretSource):
            try:
                mask = await source.run_mask(run)
            except Exception as problem:
                _log.error("cannot mask the result of a run", run=str(run), error=describe(problem))
                return (None if result is None else _emptied(result)), error and _NOT_STORED
            if mask:
                result = None if result is None else _without(result, mask)
                error = None if error is None else mask.text(error)
        return result, error


def _without(result: JsonObject, mask: Mask) -> JsonObject:
    cut = result.get("stopped") is not None or result["exitCode"] < 0
    texts: JsonObject = {
        name: mask.text(result[name], cut=cut) for name in ("stdout", "stderr") if result.get(name)
    }
    told = ("value", "valueError", "egress")
    others: JsonObject = {name: mask.value(result[name]) for name in told if name in result}
    return {**result, **texts, **others}


def _emptied(result: JsonObject) -> JsonObject:
    gone = {"stdout": "", "stderr": "", "value": None, "egress": None}
    return {**result, **gone, "valueError": _NOT_STORED, "outputTruncated": True}
