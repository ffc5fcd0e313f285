"""The names of the satellites in an answer: of those that whoever asks may see."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from ringfence import PluginContext
from ringfence.web import Principal
from ringfence_satellite.service import READ, Satellites


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


def _satellite(place: str) -> UUID | None:
    try:
        return UUID(place)
    except ValueError:
        return None
