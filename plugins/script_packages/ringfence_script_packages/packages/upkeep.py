"""What is done for packages once a day, for the whole fleet: an audit, and the deletion of what nobody wants."""

from __future__ import annotations

from ringfence import Job, Nothing, PluginContext, RunningJob
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from ringfence_script_packages.packages.auditing import Audits
from ringfence_script_packages.packages.collecting import Collector

EVERY_SECONDS = 24 * 3600.0
LOOK_EVERY = "10m"

_DUE = text("""
    SELECT EXISTS (
        SELECT FROM script_packages_sets AS sets LEFT JOIN script_packages_audits AS audits
            ON audits.set_name = sets.name
         WHERE sets.lock_hash IS NOT NULL
           AND (audits.lock_hash IS DISTINCT FROM sets.lock_hash
                OR audits.audited_at < now() - make_interval(secs => :seconds))
    )
""")


AUDIT = Job("audit-packages", Nothing, deadline_seconds=None, at_once=1)
COLLECT = Job("collect-packages", Nothing, deadline_seconds=None, at_once=1)


class Upkeep:
    """Has each done as jobs, once for the fleet; what is due to be audited is looked for more often."""

    def __init__(self, context: PluginContext, audits: Audits, collector: Collector) -> None:
        self.audits = audits
        self.collector = collector
        self._context = context

    def begin(self) -> None:
        """Have it done from now on."""
        self._context.on_job(AUDIT, self._audit)
        self._context.on_job(COLLECT, self._collect)
        self._context.every(LOOK_EVERY, AUDIT, Nothing(), name=AUDIT.name)
        self._context.every("1d", COLLECT, Nothing(), name=COLLECT.name)

    async def _audit(self, _: RunningJob[Nothing], __: AsyncSession) -> None:
        async with self._context.sessions() as session:
            is_due = await session.scalar(_DUE, {"seconds": EVERY_SECONDS})
        if is_due:
            await self.audits.audit()

    async def _collect(self, _: RunningJob[Nothing], __: AsyncSession) -> None:
        await self.collector.collect()
