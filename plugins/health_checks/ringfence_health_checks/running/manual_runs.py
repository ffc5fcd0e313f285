"""A check that somebody wants run now: where it is placed, or in one of those places."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ringfence import PluginContext
from ringfence.scripts import Carried
from ringfence_satellite.service import KnownSatellite, RunFailed, Satellites

from ringfence_health_checks.definitions.checks import Check
from ringfence_health_checks.definitions.definition import CORE
from ringfence_health_checks.results.results import Result, Results
from ringfence_health_checks.running.core_runner import CoreRunner
from ringfence_health_checks.running.on_satellite import carry_out_on

MAX_PLACES = 50


class NotPlacedError(RuntimeError):
    """The check does not run there; the message says where it does, or that there are too many places."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One place where the check was to be run: its result, or why there is none."""

    place: str
    name: str
    result: Result | None = None
    error: str | None = None

    def to_wire(self) -> dict[str, Any]:
        """The attempt as JSON for the API."""
        wire: dict[str, Any] = {"ranOn": self.place, "name": self.name, "error": self.error}
        if self.result is not None:
            wire |= {
                "id": self.result.id,
                "status": self.result.verdict.status,
                "latencyMs": self.result.latency_ms,
                **self.result.verdict.to_wire(),
                "executedAt": self.result.executed_at,
                **self.result.detail,
            }
        return wire


class ManualRuns:
    """Runs checks on demand. Their results are stored like any other."""

    def __init__(self, context: PluginContext, core: CoreRunner, results: Results) -> None:
        self._context = context
        self._core = core
        self._results = results

    async def run(self, check: Check, *, place: str | None = None) -> Sequence[Attempt]:
        """Run the check in all of its places, or only in `place` (`core`, a satellite's id or name).

        Raises `NotPlacedError`.
        """
        places = check.definition.runs_on
        satellites = await self._context.services.get(Satellites).find(
            ids=places.satellites, tags=places.tags, selector=places.selector
        )
        if place is None and len(satellites) > MAX_PLACES:
            raise NotPlacedError(
                f"{check.definition.name} runs on {len(satellites)} satellites; name one of them, "
                f"for at most {MAX_PLACES} are asked at once"
            )
        wanted = [one for one in satellites if place in {None, str(one.id), one.name}]
        core = places.core and place in {None, CORE}
        if not wanted and not core:
            names = [CORE] * places.core + [one.name for one in satellites]
            raise NotPlacedError(
                f"{check.definition.name} does not run on {place or 'any satellite that is registered'}"
                + (f"; it runs on {', '.join(names[:20])}" if names else "")
            )
        here = [self._on_core(check)] if core else []
        return await asyncio.gather(*here, *(self._on_satellite(check, one) for one in wanted))

    async def _on_core(self, check: Check) -> Attempt:
        result = await self._core.run(check)
        await self._results.store(result)
        return Attempt(CORE, CORE, result)

    async def _on_satellite(self, check: Check, satellite: KnownSatellite) -> Attempt:
        definition = check.definition
        try:
            carried = await carry_out_on(
                self._context.services.get(Satellites),
                satellite,
                definition,
                definition.facts,
                timeout_ms=definition.timeout_ms,
                config_id=str(check.id) if definition.secret_names or definition.keep_state else None,
            )
        except RunFailed as error:
            return Attempt(str(satellite.id), satellite.name, error=str(error))
        return await self._stored(check, satellite, carried)

    async def _stored(self, check: Check, satellite: KnownSatellite, carried: Carried) -> Attempt:
        result = Result.of(check.id, str(satellite.id), check.definition.system, carried)
        await self._results.store(result)
        return Attempt(str(satellite.id), satellite.name, result)
