"""Silences on somebody's behalf: what routes and pages ask for, and what is answered to what cannot be."""

from __future__ import annotations

from uuid import UUID

from ringfence import PluginContext
from ringfence.web import Principal, Problem
from ringfence_satellite.service import Satellites

from ringfence_health_checks.definitions.definition import CORE
from ringfence_health_checks.silences.silences import Silence, Silences, SilenceWanted


class AskedSilences:
    """Adds and ends them. Each method raises `Problem`."""

    def __init__(self, context: PluginContext, silences: Silences) -> None:
        self._context = context
        self.stored = silences

    async def add(self, wanted: SilenceWanted, by: Principal) -> Silence:
        """Silence what is wanted."""
        if wanted.satellite is not None and not await self._is_place(wanted.satellite):
            detail = f"there is no satellite {wanted.satellite}: name core, or a satellite's id"
            raise Problem(404, "No such satellite", detail=detail)
        made = await self.stored.add(wanted, by=by.name)
        if made is None:
            raise Problem(404, "No such check", detail=f"there is no check {wanted.check}")
        return made

    async def end(self, id: UUID, by: Principal) -> Silence:
        """End a silence now."""
        ended = await self.stored.end(id, by=by.name)
        if ended is not None:
            return ended
        if await self.stored.exists(id):
            raise Problem(409, "The silence has ended", detail=f"the silence {id} has ended already")
        raise Problem(404, "No such silence", detail=f"there is no silence {id}")

    async def _is_place(self, place: str) -> bool:
        if place == CORE:
            return True
        try:
            id = UUID(place)
        except ValueError:
            return False
        return str(id) == place and bool(await self._context.services.get(Satellites).names([id]))
