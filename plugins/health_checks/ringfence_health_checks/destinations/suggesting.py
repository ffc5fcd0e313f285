"""What the policy would have to allow for checks to have what they have tried: for the API and for pages."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from ringfence import PluginContext
from ringfence_script_packages.service import PolicyState, SandboxPolicyService

from ringfence_health_checks.destinations.entries import Suggestion, Unfit, not_allowed, suggested
from ringfence_health_checks.destinations.table import Destinations, Wish


@dataclass(frozen=True, slots=True)
class Suggested:
    """Entries that the policy does not have, what is unfit for one, and all that was tried."""

    state: PolicyState
    allow: Sequence[Suggestion]
    unfit: Sequence[Unfit]
    wishes: Sequence[Wish]


class Suggestions:
    """Reads what was tried, and holds it against the policy."""

    def __init__(self, context: PluginContext, destinations: Destinations) -> None:
        self._context = context
        self._destinations = destinations

    async def since(self, began: dt.datetime, *, check: UUID | None = None) -> Suggested:
        """Of what was tried since then, by all checks or one."""
        wishes = await self._destinations.tried(since=began, check_id=check)
        state = await self._context.services.get(SandboxPolicyService).current()
        allow, _unfit = suggested(not_allowed(state.received.policy.network, wishes))
        _fit, unfit = suggested(wishes)
        return Suggested(state, allow, unfit, wishes)
