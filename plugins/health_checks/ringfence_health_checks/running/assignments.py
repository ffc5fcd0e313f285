"""What satellites are to do about checks, what they report, and the secrets that they may have for it.

Threat: a satellite reports on checks that are not its own, or asks for their secrets. Mechanism: every question is
about one satellite, which the satellite plugin knows by its token, and is answered from where the check is placed now;
nothing else is given out or taken in. Not covered: a satellite that lies about its own checks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

import structlog
from ringfence import PluginContext
from ringfence_satellite.service import (
    AssignedSatellite,
    Assignment,
    CheckResult,
    SecretsUnavailable,
    StrategyError,
)
from ringfence_secrets.service import SecretError, Secrets

from ringfence_health_checks.definitions.checks import Check, Checks, UnreadableCheckError
from ringfence_health_checks.definitions.checks_copy import ChecksCopy
from ringfence_health_checks.results.quota import Quotas
from ringfence_health_checks.results.reported import reported
from ringfence_health_checks.results.results import Results

_log = structlog.get_logger("ringfence.health_checks")


class CheckAssignments:
    """Implements the satellite plugin's `AssignmentSource`."""

    def __init__(
        self, context: PluginContext, checks: Checks, checks_copy: ChecksCopy, results: Results
    ) -> None:
        self._context = context
        self._checks = checks
        self._checks_copy = checks_copy
        self._results = results
        self._quotas = Quotas()

    async def assignments(self, satellite: AssignedSatellite) -> Sequence[Assignment]:
        """See `AssignmentSource`."""
        return [check.assignment(satellite) for check in await self._checks_copy.on(satellite)]

    async def report(self, satellite: AssignedSatellite, frame: CheckResult | StrategyError) -> bool:
        """See `AssignmentSource`."""
        config_id = frame.config_id if isinstance(frame, CheckResult) else frame.strategy_id
        # Also of a check that was disabled since: the satellite may tell of it late.
        check = await self._find(satellite, config_id, is_placed)
        if check is None:
            return False
        interval = check.definition.shortest_gap_seconds
        if not self._quotas.allows(check.id, satellite.id, interval, time.monotonic()):
            _log.warning(
                "refused more results than a check's schedule makes",
                check=check.definition.name,
                satellite=str(satellite.id),
            )
            return False
        result = reported(check.id, check.definition, satellite.id, frame, changed_at=check.updated_at)
        return await self._results.store(result)

    async def secrets(self, satellite: AssignedSatellite, config_id: str) -> Mapping[str, str] | None:
        """See `AssignmentSource`."""
        check = await self._find(satellite, config_id, is_assigned)
        if check is None:
            return None
        try:
            return await self._context.services.get(Secrets).get(check.definition.secret_names)
        except SecretError as error:
            raise SecretsUnavailable(str(error)) from error

    async def _find(
        self,
        satellite: AssignedSatellite,
        config_id: str,
        fits: Callable[[Check, AssignedSatellite], bool],
    ) -> Check | None:
        """The check of that id, if it fits this satellite.

        Before it says no it asks the database: what the satellite was told by another instance this one may hear of a
        moment later, and a result that is refused is gone.
        """
        try:
            id = UUID(config_id)
        except ValueError:
            return None
        check = (await self._checks_copy.current()).get(id)
        if check is None or not fits(check, satellite):
            try:
                check = await self._checks.one(id)
            except UnreadableCheckError:
                return None
        return check if check is not None and fits(check, satellite) else None


def is_placed(check: Check, satellite: AssignedSatellite) -> bool:
    """Whether this check is one of this satellite's, enabled or not."""
    return check.definition.runs_on.includes(satellite)


def is_assigned(check: Check, satellite: AssignedSatellite) -> bool:
    """Whether this satellite is to run this check."""
    return check.definition.enabled and is_placed(check, satellite)
