"""This instance's copy of the checks, kept by the broadcast hook.

Thousands of satellites ask at once what they are to do when an instance comes back; none of them costs a query. Threat:
an instance that is cut off from the database hands out the secrets of a check that was since taken away. Mechanism: see
`ringfence.fleet.replica`. Not covered: the moments between a commit and its event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from ringfence import Event, PluginContext
from ringfence_satellite.service import AssignedSatellite

from ringfence_health_checks.definitions.checks import Check, Checks, UnreadableCheckError
from ringfence_health_checks.definitions.placed import Placed
from ringfence_health_checks.hooks import HealthCheckChanged


@dataclass(frozen=True, slots=True)
class Changed:
    """One check before and after a change; None where it was not, or is no longer."""

    before: Check | None
    after: Check | None


class ChecksCopy:
    """The checks, by id."""

    def __init__(self, context: PluginContext, checks: Checks) -> None:
        self._checks = checks
        self._copy = context.replica(self._load)
        self._placed: tuple[Mapping[UUID, Check], Placed] = ({}, Placed(()))
        self._used: tuple[Mapping[UUID, Check], Mapping[str, int]] = ({}, {})

    async def current(self) -> Mapping[UUID, Check]:
        """Every check. Raises what the database raises."""
        return await self._copy.current()

    async def on(self, satellite: AssignedSatellite) -> Sequence[Check]:
        """The checks that a satellite is to run, by name. Raises what the database raises."""
        checks = await self.current()
        if self._placed[0] is not checks:
            self._placed = (checks, Placed(checks.values()))
        return self._placed[1].on(satellite)

    async def using(self, name: str) -> Sequence[str]:
        """See `SecretUser`: the checks whose scripts are given a secret."""
        checks = (await self.current()).values()
        return sorted(f"check {one.definition.name}" for one in checks if name in one.definition.secret_names)

    async def used(self) -> Mapping[str, int]:
        """See `SecretUser`."""
        checks = await self.current()
        if self._used[0] is not checks:
            # Every overview asks for it, and checks change seldom.
            names = (name for one in checks.values() for name in set(one.definition.secret_names))
            self._used = (checks, Counter(names))
        return self._used[1]

    async def on_change(self, event: Event[HealthCheckChanged]) -> Changed:
        """Take a change over; answers what it was."""
        id = event.payload.check_id
        changed = Changed(None, None)

        async def apply(copy: Mapping[UUID, Check] | None) -> Mapping[UUID, Check] | None:
            nonlocal changed
            changed = Changed(None if copy is None else copy.get(id), await self._one(id))
            if copy is None:
                return None
            others = {key: check for key, check in copy.items() if key != id}
            return others if changed.after is None else {**others, id: changed.after}

        await self._copy.change(apply)
        return changed

    async def _load(self) -> Mapping[UUID, Check]:
        return {check.id: check for check in await self._checks.all()}

    async def _one(self, id: UUID) -> Check | None:
        try:
            return await self._checks.one(id)
        except UnreadableCheckError:
            return None
