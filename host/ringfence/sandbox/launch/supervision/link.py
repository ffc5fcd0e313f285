"""The link of one run: made when its filter is known to be loaded, and taken away when its processes are gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ringfence.sandbox.egress import Attachment, EgressPlan, LinkFailed, attach
from ringfence.sandbox.identities.identity import Identity
from ringfence.sandbox.identities.leases import Lease
from ringfence.sandbox.launch.supervision.moments import Event, NotLinked, Now

_log = logging.getLogger(__name__)


class Link:
    """A link in the making, or made. `tell` hears which of both it became, or why neither."""

    def __init__(
        self, plan: EgressPlan, pid: int, owner: Identity | Lease, tell: Callable[[Event], None]
    ) -> None:
        """Begin to give the network namespace of process `pid` its link."""
        self._tell = tell
        self._attachment: Attachment | None = None
        self._making = asyncio.get_running_loop().create_task(self._attach(plan, pid, owner))

    async def _attach(self, plan: EgressPlan, pid: int, owner: Identity | Lease) -> None:
        try:
            self._attachment = await attach(plan, pid, owner)
        except LinkFailed as error:
            self._tell(NotLinked(str(error)))
        except Exception as error:
            _log.exception("cannot give a run its network link")
            self._tell(NotLinked(f"{type(error).__name__}: {error}"))
        else:
            self._tell(Now.LINKED)

    async def close(self) -> str | None:
        """Take it away. Returns why it had gone away before, or None if it had not."""
        self._making.cancel()
        await asyncio.wait((self._making,))
        if self._attachment is None:
            return None
        ended = self._attachment.ended
        await self._attachment.close()
        return ended
