"""What a change of the policy would do to satellites: planned from the capabilities that each has told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from ringfence import PluginContext
from ringfence.sandbox.capabilities.reported import from_wire
from ringfence.sandbox.plan.outlook import Fate, Outlook, outlook
from ringfence.sandbox.policy.provider import PolicySnapshot
from ringfence_script_packages.service import ProposedPolicy, Prospect, Prospects
from sqlalchemy import text

# Most machines of a fleet tell the same: each document is read, and planned with, once.
_SATELLITES = text("""
    SELECT id, name, md5(capabilities::text) AS told FROM satellite_satellites ORDER BY name
""")
_TOLD = text("""
    SELECT DISTINCT ON (md5(capabilities::text)) md5(capabilities::text), capabilities
      FROM satellite_satellites WHERE capabilities IS NOT NULL
""")
_NOTHING_TOLD = Outlook(Fate.UNKNOWN, ("it has not told yet what it can enforce: it has never connected",))


class _Expected(NamedTuple):
    """What becomes of runs on a machine with the change, and without."""

    after: Outlook
    before: Outlook


_UNKNOWN = _Expected(_NOTHING_TOLD, _NOTHING_TOLD)


class SatellitePreviewer:
    """Is the satellites' `PolicyPreviewer`. What a policy shows of files is known on each satellite alone."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    async def preview(self, proposed: ProposedPolicy) -> Prospects:
        """What would become of the runs on each satellite, whether it is online or not."""
        async with self._context.sessions() as session:
            satellites = (await session.execute(_SATELLITES)).all()
            told = {row[0]: row[1] for row in await session.execute(_TOLD)}
        expected = await asyncio.to_thread(_planned, told, proposed)
        return Prospects(
            "satellite",
            [
                _prospect(row.name, str(row.id), expected.get(row.told, _UNKNOWN) if row.told else _UNKNOWN)
                for row in satellites
            ],
        )


def _planned(told: Mapping[str, Any], proposed: ProposedPolicy) -> dict[str, _Expected]:
    before, after = PolicySnapshot(proposed.before), PolicySnapshot(proposed.after)
    capabilities = {digest: from_wire(document) for digest, document in told.items()}
    return {
        digest: _Expected(outlook(each, after), outlook(each, before))
        for digest, each in capabilities.items()
    }


def _prospect(name: str, id: str, expected: _Expected) -> Prospect:
    return Prospect(name, expected.after.fate, expected.before.fate, expected.after.reasons, id)
