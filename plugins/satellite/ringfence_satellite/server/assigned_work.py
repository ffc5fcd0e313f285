"""What other plugins have for satellites to do, brought together: their assignments, reports and secrets.

Threat: a satellite that has been taken over asks for the secrets of others, or reports on what it does not run.
Mechanism: each source is asked about the satellite that has proved who it is, and says no to whatever it has not
assigned to that one; nothing that the satellite says about itself is passed on. Secrets are passed through, never
kept, and their frames do not show them when they are printed. Not covered: a satellite can tell, and so can whoever
controls it, each secret of what is assigned to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from weakref import WeakValueDictionary

import structlog
from ringfence import PluginContext
from ringfence.bounded import cleaned

from ringfence_satellite.protocol import (
    CheckResult,
    RequestRunSecrets,
    RunSecrets,
    StrategyError,
)
from ringfence_satellite.protocol.assignments import Assigned, Item
from ringfence_satellite.server.runs import table
from ringfence_satellite.server.runs.ids import run_of
from ringfence_satellite.service import (
    AssignedSatellite,
    AssignmentSource,
    RunSecretSource,
    SecretsUnavailable,
)

MAX_ASSIGNMENTS_BYTES = 6 * 1024 * 1024
"""The assignments of one satellite cross the wire in one frame, with a policy beside them."""
_log = structlog.get_logger("ringfence.satellite.work")


class Work:
    """The sources of work, as the satellites of this instance are concerned."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._turns = itertools.count()
        # Most satellites share what they are assigned with others. Forgotten when the last of them is told otherwise.
        self._known: WeakValueDictionary[str, Assigned] = WeakValueDictionary()
        self._made: WeakValueDictionary[tuple[str, ...], Assigned] = WeakValueDictionary()

    @property
    def _sources(self) -> Sequence[AssignmentSource]:
        return self._context.services.extensions(AssignmentSource)

    def turn(self) -> int:
        """A number for what is read from here on: what is read later has a higher one."""
        return next(self._turns)

    async def assignments(self, satellite: AssignedSatellite) -> Assigned:
        """What a satellite is to do."""
        found = [one.item for source in self._sources for one in await source.assignments(satellite)]
        fitting = _fitting(found)
        if len(fitting) < len(found):
            _log.error(
                "a satellite has more assignments than one frame can hold; it is not sent the last ones",
                satellite=str(satellite.id),
                assigned=len(found),
                sent=len(fitting),
            )
        parts = tuple(item.digest for item in fitting)
        if (made := self._made.get(parts)) is not None:
            return made
        assigned = Assigned.of(fitting)
        assigned = self._made[parts] = self._known.setdefault(assigned.digest, assigned)
        return assigned

    def known(self, digest: str) -> Assigned | None:
        """The assignments with this digest, if some satellite of this instance has them."""
        return self._known.get(digest)

    async def report(self, satellite: AssignedSatellite, frame: CheckResult | StrategyError) -> bool:
        """Have a report taken by whoever has assigned what it is about. False when nobody has."""
        for source in self._sources:
            if await source.report(satellite, frame):
                return True
        return False

    async def secrets(self, satellite: AssignedSatellite, frame: RequestRunSecrets) -> RunSecrets:
        """The answer to a request for secrets: they, or why there are none."""
        try:
            env = await self._secrets(satellite, frame.config_id)
            if env is not None:
                return RunSecrets(request_id=frame.request_id, env=dict(env))
        except SecretsUnavailable as error:
            return RunSecrets(request_id=frame.request_id, error=cleaned(str(error), 2000))
        return RunSecrets(request_id=frame.request_id, error="this satellite is assigned no secrets for that")

    async def _secrets(self, satellite: AssignedSatellite, config_id: str) -> Mapping[str, str] | None:
        run = run_of(config_id)
        if run is None:
            for source in self._sources:
                if (env := await source.secrets(satellite, config_id)) is not None:
                    return env
            return None
        async with self._context.sessions() as session:
            if not await table.is_wanted(session, run, satellite=satellite.id):
                raise SecretsUnavailable("the run has ended, was cancelled, or is not this satellite's")
        for run_source in self._context.services.extensions(RunSecretSource):
            if (env := await run_source.run_secrets(satellite, run)) is not None:
                return env
        return None


def _fitting(items: Iterable[Item]) -> list[Item]:
    fitting, room = [], MAX_ASSIGNMENTS_BYTES
    for item in items:
        room -= item.size + len(item.id) + 8
        if room >= 0:
            fitting.append(item)
    return fitting
