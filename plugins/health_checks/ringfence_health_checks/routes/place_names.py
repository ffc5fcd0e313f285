"""The names of the satellites in an answer: of those that whoever asks may see."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from ringfence import PluginContext
from ringfence.web import Principal
from ringfence_satellite.service import READ, Satellites

from ringfence_health_checks.definitions.definition import CORE


class Names:
    """Looks names up. A satellite that is gone has none, nor has one that the principal may not see."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def of(self, places: Collection[str], principal: Principal) -> Mapping[str, str]:
        """The names of the satellites among `places`, by id."""
        ids = [id for place in places if (id := _satellite(place)) is not None]
        if not ids or not principal.holds_somewhere(READ):
            return {}
        found = await self._context.services.get(Satellites).names(ids, reach=principal.reach(READ))
        return {str(id): name for id, name in found.items()}

    async def place(self, text: str, principal: Principal) -> str | None:
        """The place that a text names: the core, or a satellite by its id or name; None if it names none."""
        if text == CORE:
            return CORE
        if (id := _satellite(text)) is not None:
            return str(id)
        found = [one.id for one in await self._context.services.get(Satellites).find() if one.name == text]
        seen = await self.of([str(id) for id in found], principal)
        return next(iter(seen), None)


def _satellite(place: str) -> UUID | None:
    try:
        return UUID(place)
    except ValueError:
        return None
