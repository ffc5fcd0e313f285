"""What people are told: by the channels of the host, of every entry in the diary."""

from collections.abc import Sequence

from ringfence_notifications.service import Route


class TellOfEntries:
    async def routes(self) -> Sequence[Route]:
        entries = Route(
            name="diary-entries",
            what="new entries in the policy's diary",
            hook="diary-entry-written",
            title="{{ event.author }} wrote into the policy's diary",
            text="{{ event.text }}",
            severity="info",
        )
        return [entries]
