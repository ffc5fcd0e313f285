"""Definitions as the engine reads them."""

from __future__ import annotations

from ringfence.web import Principal
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_automations.definitions.wiring import Definitions
from ringfence_automations.runs.compiled import Compiled, NoPlanError
from ringfence_automations.service import StepFailed


class DefinedPlans:
    """The revisions of automations, compiled."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions

    async def at(self, session: AsyncSession, name: str, revision: int) -> Compiled:
        """That revision of an automation. Raises NoPlanError."""
        raise NoPlanError(f"there is no revision {revision} of {name}")

    async def acts_for(self, name: str, revision: int) -> Principal:
        """Whom that revision acts for, with the rules that they hold now. Raises StepFailed."""
        raise StepFailed(f"there is no revision {revision} of {name}")
