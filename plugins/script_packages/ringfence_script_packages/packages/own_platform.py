"""The platform of this instance: looked at once, and only where there are sets that have to fit it."""

from __future__ import annotations

import asyncio

import structlog
from ringfence.redaction import describe
from ringfence.sandbox.capabilities.probe import probe
from ringfence.sandbox.faults import Unavailable
from ringfence.scripts.packages.platform import Platform

from ringfence_script_packages.packages.platforms import Platforms

_log = structlog.get_logger("ringfence.script_packages")


class OwnPlatform:
    """What runs scripts on this machine."""

    def __init__(self, platforms: Platforms) -> None:
        self._platforms = platforms
        self._looking = asyncio.Lock()
        self._found: Platform | None = None

    async def get(self) -> Platform | None:
        """The platform; None if an interpreter does not say what it is, which is told in the log."""
        async with self._looking:
            if self._found is None:
                try:
                    self._found = await asyncio.to_thread(lambda: Platform.of(probe()))
                except Unavailable as error:
                    _log.warning("packages cannot be installed for this machine", error=describe(error))
            return self._found

    async def note(self) -> None:
        """Have packages installed for this machine, too."""
        if (found := await self.get()) is not None:
            await self._platforms.seen(found)
