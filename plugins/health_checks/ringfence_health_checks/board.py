"""This instance's copy of the checks, kept by the broadcast hook, believed while the event log is followed live.

Thousands of satellites ask at once what they are to do when an instance comes back; none of them costs a query. Threat:
an instance that is cut off from the database hands out the secrets of a check that was since taken away. Mechanism: the
copy is used only while the tailer is known to have reached the end of the log; otherwise the table is read, and whoever
cannot read it gets no answer. Not covered: the moments between a commit and its event.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from ringfence import Event, PluginContext
from ringfence_satellite.service import AssignedSatellite

from ringfence_health_checks.checks import Check, Checks, UnreadableCheckError
from ringfence_health_checks.hooks import HealthCheckChanged
from ringfence_health_checks.placed import Placed

SAME_READ_SECONDS = 0.25
"""While the copy is not to be relied on, those who ask within this time share one read."""


@dataclass(frozen=True, slots=True)
class Changed:
    """One check before and after a change; None where it was not, or is no longer."""

    before: Check | None
    after: Check | None


class Board:
    """The checks, by id."""

    def __init__(self, context: PluginContext, checks: Checks) -> None:
        self._context = context
        self._checks = checks
        self._copy: dict[UUID, Check] = {}
        self._placed: tuple[Mapping[UUID, Check], Placed] = ({}, Placed(()))
        self._read_at: float | None = None
        self._turn = asyncio.Lock()
        """A read and an event take turns, so that the older of the two never overwrites the newer."""

    async def current(self) -> Mapping[UUID, Check]:
        """Every check. Raises what the database raises."""
        if self._read_at is None or not self._context.tail_is_live:
            async with self._turn:
                if self._read_at is None or time.monotonic() - self._read_at > SAME_READ_SECONDS:
                    self._copy = {check.id: check for check in await self._checks.all()}
                    self._read_at = time.monotonic()
        return self._copy

    async def on(self, satellite: AssignedSatellite) -> Sequence[Check]:
        """The checks that a satellite is to run, by name. Raises what the database raises."""
        checks = await self.current()
        if self._placed[0] is not checks:
            self._placed = (checks, Placed(checks.values()))
        return self._placed[1].on(satellite)

    async def forget(self) -> None:
        """Have the table read again: what was read before the connection to the log was lost may be gone."""
        async with self._turn:
            self._read_at = None

    async def on_change(self, event: Event[HealthCheckChanged]) -> Changed:
        """Take a change over; answers what it was."""
        id = event.payload.check_id
        async with self._turn:
            before = self._copy.get(id)
            try:
                after = await self._checks.one(id)
            except UnreadableCheckError:
                after = None
            copy = {key: check for key, check in self._copy.items() if key != id}
            self._copy = copy if after is None else {**copy, id: after}
        return Changed(before, after)
