"""What other plugins have people told: the service."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from ringfence.bounded import cleaned
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_notifications.channels.channels import Channels
from ringfence_notifications.deciding import Fact, Phase, Why
from ringfence_notifications.incidents import table
from ringfence_notifications.incidents.suppressed import Counts, Reason, count
from ringfence_notifications.incidents.table import StoredTelling
from ringfence_notifications.incidents.taking import Taking
from ringfence_notifications.incidents.timing import AT_ONCE, DIRECT, GATHERED
from ringfence_notifications.routing.compiled import MAX_GROUP, MAX_TEXT, MAX_TITLE
from ringfence_notifications.service import Severity, UnknownChannelError


class Direct:
    """Implements `Notifications`."""

    def __init__(self, channels: Channels, taking: Taking) -> None:
        self._channels = channels
        self._taking = taking

    async def notify(
        self,
        session: AsyncSession,
        *,
        channel: str,
        title: str,
        text: str,
        severity: Severity,
        group: str | None = None,
        link: str | None = None,
    ) -> None:
        """See `Notifications`."""
        known = (await self._channels.all()).get(channel)
        if known is None:
            raise UnknownChannelError(channel)
        fact = Fact(
            Phase.ONCE,
            severity,
            " ".join(cleaned(title, MAX_TITLE).split()),
            cleaned(text, MAX_TEXT),
            None if link is None else cleaned(link, MAX_TEXT),
        )
        if not known.settings.enabled or severity.rank < known.settings.at_least.rank:
            why = Why.LESS_SEVERE if known.settings.enabled else Why.SWITCHED_OFF
            await count(session, Counts({Reason(channel, DIRECT, why): 1}))
            return
        own = str(uuid.uuid4())
        incident, _ = await table.begin(session, DIRECT, [channel, own], fact)
        together = own if group is None else cleaned(group, MAX_GROUP)
        stored = StoredTelling(channel, incident, DIRECT, together, None)
        counts = Counts()
        timing = AT_ONCE if group is None else GATHERED
        await self._taking.move(session, DIRECT, [stored], fact, timing, counts)

    async def channels(self) -> Sequence[str]:
        """See `Notifications`."""
        return sorted(await self._channels.all())
