"""What the satellite plugin offers to other plugins: to run a script on a satellite, and to have it
carry out work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from ringfence_satellite.protocol import CheckResult, JsonObject, RunScript, StrategyError


class Satellites(Protocol):
    """The service: reaches satellites wherever they are connected."""

    async def run(self, satellite: UUID, frame: RunScript) -> JsonObject:
        """Run a script on a satellite, and answer its result as JSON. Raises
        `ringfence_satellite.runs.RunFailed`.
        """

    async def reassign(self, satellites: Sequence[UUID]) -> None:
        """Have those of the satellites that are connected to this instance told of their assignments anew."""


class AssignmentSource(Protocol):
    """The extension point: a plugin that has work for satellites says what it is, and takes what comes
    of it.
    """

    async def assignments(self, satellite: UUID) -> Sequence[JsonObject]:
        """What this satellite is to do, as it is sent to it."""

    async def report(self, satellite: UUID, frame: CheckResult | StrategyError) -> bool:
        """Take a report. False when the satellite is not assigned what it reports on, and nothing was
        taken.
        """
