"""What is done for packages once a day, for the whole fleet: an audit, and the deletion of what nobody wants."""

from __future__ import annotations

import asyncio
import time

from ringfence import PluginContext
from sqlalchemy import text

from ringfence_script_packages.packages.auditing import Audits
from ringfence_script_packages.packages.collecting import Collector

EVERY_SECONDS = 24 * 3600.0
LOOK_SECONDS = 600.0

_DUE = text("""
    SELECT EXISTS (
        SELECT FROM script_packages_sets AS sets LEFT JOIN script_packages_audits AS audits
            ON audits.set_name = sets.name
         WHERE sets.lock_hash IS NOT NULL
           AND (audits.lock_hash IS DISTINCT FROM sets.lock_hash
                OR audits.audited_at < now() - make_interval(secs => :seconds))
    )
""")


class Upkeep:
    """Looks from time to time what is due. One instance does it."""

    def __init__(self, context: PluginContext, audits: Audits, collector: Collector) -> None:
        self.audits = audits
        self.collector = collector
        self._context = context

    async def lead(self) -> None:
        """Do what is due, until cancelled."""
        collected_at = float("-inf")
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            async with self._context.sessions() as session:
                is_due = await session.scalar(_DUE, {"seconds": EVERY_SECONDS})
            if is_due:
                await self.audits.audit()
            if time.monotonic() - collected_at > EVERY_SECONDS:
                collected_at = time.monotonic()
                await self.collector.collect()
